"""What the page may send: bodies of bounded size, checked before the model sees them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, get_args

from starlette.requests import ClientDisconnect, Request

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import check_texts
from genlangsplat_ns.language.settings import LEVEL_RULES, LevelRule
from genlangsplat_ns.viewer.rays import SceneRay

MAX_JSON = 1_000_000
"""Maximum size of a JSON body in bytes: all texts with every character escaped."""

MAX_TEXTS = 64
"""Maximum number of texts in a request."""

MAX_NAME = 100
"""Maximum number of characters in the name of a page."""


class RefusedError(GenLangSplatError):
    """The request cannot be answered, with the status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """Who asks: of the requests of one page, the newest counts."""

    page: str
    request: int


async def read_body(request: Request, limit: int, content_type: str) -> bytes:
    """Reads a body of at most `limit` bytes.

    Browsers send these content types to another origin only after they asked whether they may, and they may not.

    Raises:
        RefusedError: The body is larger, has another content type, or the client went away.
    """
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != content_type:
        raise RefusedError(415, f"Found the content type {found!r}, expected {content_type}.")
    body = bytearray()
    try:
        async for block in request.stream():
            body += block
            if len(body) > limit:
                raise RefusedError(413, f"Found a body of more than {limit:,} bytes. Send less.")
    except ClientDisconnect:
        raise RefusedError(400, "The client went away while it sent the request.") from None
    return bytes(body)


async def read_json(request: Request) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        RefusedError: The body is too large, or no JSON object.
    """
    body = await read_body(request, MAX_JSON, "application/json")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"Found a body that is no JSON ({error}); expected an object.") from error
    if not isinstance(document, dict):
        raise RefusedError(400, f"Found JSON of the type {type(document).__name__}; expected an object.")
    return document


def asked_by(document: dict[str, Any]) -> Asked:
    """Reads who asks.

    Raises:
        RefusedError: The name or the number is missing or wrong.
    """
    page, number = document.get("page"), document.get("request")
    if not isinstance(page, str) or not 0 < len(page) <= MAX_NAME:
        raise RefusedError(400, f'Found no "page", expected a text of 1 to {MAX_NAME} characters.')
    if not isinstance(number, int) or isinstance(number, bool):
        raise RefusedError(400, f'Found the "request" {str(number)[:50]!r}, expected a whole number.')
    return Asked(page, number)


def texts_of(document: dict[str, Any]) -> tuple[list[str], bool]:
    """Reads the texts, and whether they are put into sentences.

    Raises:
        RefusedError: The lists are no texts, or too many.
        GenLangSplatError: A text is blank or too long.
    """
    texts, prompts = document.get("texts"), document.get("prompts", False)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RefusedError(400, 'Found no "texts", expected a list of texts.')
    if len(texts) > MAX_TEXTS:
        raise RefusedError(400, f"Found {len(texts):,} texts, expected at most {MAX_TEXTS}. Ask fewer.")
    if not isinstance(prompts, bool):
        raise RefusedError(400, 'Found "prompts" that is neither true nor false.')
    check_texts(texts)
    return texts, prompts


def click_of(document: dict[str, Any]) -> tuple[SceneRay, LevelRule]:
    """Reads a click and the level at which it is answered.

    Raises:
        RefusedError: A number is missing or not finite, the direction is zero, or the level is unknown.
    """
    origin, direction = _vector(document, "origin"), _vector(document, "direction")
    if math.hypot(*direction) < 1e-9:
        raise RefusedError(400, 'Found a "direction" of zero, expected a direction.')
    level = document.get("level", "mean")
    if level not in get_args(LevelRule):
        raise RefusedError(400, f"Found the level {str(level)[:50]!r}; choose one of {', '.join(LEVEL_RULES)}.")
    return SceneRay(origin, direction), level


def _vector(document: dict[str, Any], name: str) -> tuple[float, float, float]:
    found = document.get(name)
    numbers = found if isinstance(found, list) and len(found) == 3 else [None]
    # Whole numbers may be too large for a float, so they are compared first; NaN is not between the bounds.
    if not all(isinstance(item, (int, float)) and -1e9 < item < 1e9 for item in numbers):
        raise RefusedError(400, f'Found no "{name}", expected three finite numbers.')
    x, y, z = map(float, numbers)
    return x, y, z
