"""Reads JSON of unknown origin, and checks the types of what is in it before it is used.

All errors of content are ValueErrors whose message says what was found and what was expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

MAX_BYTES = 1 << 28
"""Larger files are not read; in memory, JSON takes several times the size of its file."""

BYTES_OF_SIGNS = {b"[": 72, b"{": 80, b",": 32, b'"': 30}
"""Memory for a list, an object, a value and half a text, of which each needs at least this sign in the file."""

MAX_RATIO, MIN_MEMORY = 10, 200 << 20
"""Values may need this many times the size of the file, and this many bytes."""


def read_json(path: Path, encoding: str = "utf-8", max_bytes: int = MAX_BYTES) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not in UTF-8, no JSON, nested too deeply, or larger than `max_bytes`; or its values would need
            far more memory than those of real files.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise ValueError(f"it has {size:,} bytes, expected at most {max_bytes:,}")
    content = path.read_bytes()
    needed = sum(content.count(sign) * cost for sign, cost in BYTES_OF_SIGNS.items())
    if needed > MAX_RATIO * size + MIN_MEMORY:
        raise ValueError(f"it has {size:,} bytes, but its values would need some {needed:,} bytes of memory")
    return parse_json(content.decode(encoding))


def parse_json(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
        ValueError: It is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def object_of(value: Any, name: str) -> dict[str, Any]:
    """Returns a value that must be an object; `name` is what messages call it.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {kind_of(value)}, expected an object")
    return value


def list_of(value: Any, name: str) -> list[Any]:
    """Returns a value that must be a list; see `object_of`."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is {kind_of(value)}, expected a list")
    return value


def text_of(value: Any, name: str) -> str:
    """Returns a value that must be a text that can be written; see `object_of`."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {kind_of(value)}, expected a text")
    # JSON can have halves of characters, which no file or console takes.
    if not value.isascii():
        value.encode("utf-8")
    return value


def number_of(value: Any, name: str, least: float = -math.inf) -> float:
    """Returns a value that must be a finite number, at least `least`; see `object_of`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {kind_of(value)}, expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < least:
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise ValueError(f"{name} is {number:g}, expected a finite number{bound}")
    return number


def lenient_number_of(value: Any, name: str) -> float:
    """Returns a number that may be infinite, NaN or written as a text, as some programs do; see `object_of`."""
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (OverflowError, ValueError):
        pass
    raise ValueError(f"{name} is {kind_of(value)}, expected a number")


def integer_of(value: Any, name: str, least: int = 0, most: int = (1 << 63) - 1) -> int:
    """Returns a value that must be a whole number from `least` to `most`; see `object_of`."""
    number = number_of(value, name)
    if not number.is_integer() or not least <= int(value) <= most:
        raise ValueError(f"{name} is {number:g}, expected a whole number from {least} to {most}")
    return int(value)


def numbers_of(value: Any, name: str, shape: Sequence[int]) -> Float64[np.ndarray, "*shape"]:
    """Returns finite numbers in lists of a shape as an array; see `object_of`."""
    flat = value
    for size in shape:
        rows = [flat] if flat is value else flat
        if not all(isinstance(row, list) and len(row) == size for row in rows):
            raise ValueError(f"{name} has not the shape {' x '.join(map(str, shape))}")
        flat = [item for row in rows for item in row]
    return np.array([number_of(item, f"a number of {name}") for item in flat], dtype=np.float64).reshape(shape)


def kind_of(value: Any) -> str:
    """Returns what messages call the type of a JSON value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)
