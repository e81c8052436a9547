"""Seeded changes of valid files: of their bytes, of the words of a text, and of the structure of a JSON document."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from copy import deepcopy
from typing import Any

INTEGERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 4096, 32767, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
INTEGERS += ((1 << 53) + 1, (1 << 63) - 1, (1 << 64) - 1)
"""Numbers at the limits of types and of common checks; they are also used with a minus sign."""

FLOATS = (float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1e-30, 1e30, 1e308, -1e308, 0.5)

WORDS = (
    *("NaN", "nan", "inf", "-inf", "Infinity", "1e999", "-1", "0", "1.5", "-0", "4294967296", "9" * 30, "9" * 400),
    *("\0", "%s", "..", "../../../../etc/passwd", "/etc/passwd", "C:\\x", "~", "a" * 300, "\u0664\u0662", "\u00b2"),
    *("", " ", "\n", "\ud7ff", "null", "true", "[]", "{}", "!!python/object/apply:os.system ['true']", "&a [*a, *a]"),
)
"""Words that no valid file has; two of them are digits to Python, but not to everyone."""

JSON_VALUES: tuple[Any, ...] = (
    *(None, True, False, [], {}, "", "0", "x", "../x", 0.5, 1e308, float("nan"), float("inf"), float("-inf")),
    *([[]], [None], [[[[[1]]]]], {"a": 1}, 10**400, [0] * 3, ["x"] * 4, "\0", "\ud800", "9" * 5000),
    *(sign * number for number in INTEGERS for sign in (1, -1)),
)
"""Values of other types and sizes than those expected."""

Mutation = Callable[[bytes, random.Random], bytes]


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Changes one to four places of a file: bits, bytes, numbers of any width, blocks, or its end."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place, length = rng.randrange(len(changed) + 1), rng.choice((1, 2, 4, 8, 16, 64, 256))
        match rng.randrange(8):
            case 0 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(changed):
                changed[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            case 2 | 3:
                number = _packed_number(rng)
                changed[place : place + len(number)] = number
            case 4:
                del changed[place:]
            case 5:
                del changed[place : place + length]
            case 6:
                start = rng.randrange(len(changed) + 1)
                changed[place:place] = changed[start : start + length]
            case _:
                changed[place:place] = rng.randbytes(length)
    return bytes(changed)


def _packed_number(rng: random.Random) -> bytes:
    if rng.random() < 0.25:
        order, kind, value = rng.choice("<>"), rng.choice("fd"), rng.choice(FLOATS)
        return struct.pack(order + kind, value if kind == "d" or abs(value) < 3e38 else float("inf"))
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(INTEGERS) * rng.choice((1, -1)) % (1 << 8 * width)
    return number.to_bytes(width, rng.choice(("little", "big")))


def mutate_text(content: bytes, rng: random.Random) -> bytes:
    """Replaces, repeats, moves or removes words and lines of a text; sometimes changes its bytes."""
    if rng.random() < 0.15:
        return mutate_bytes(content, rng)
    text = content.decode("utf-8", errors="replace")
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.randrange(6)
        if kind < 3:
            words = list(re.finditer(r"[^\s,\[\]{}:\"']+", text))
            if not words:
                continue
            word = rng.choice(words)
            new = rng.choice((rng.choice(WORDS), str(rng.choice(INTEGERS) * rng.choice((1, -1))), word[0] * 2, ""))
            text = text[: word.start()] + new + text[word.end() :]
            continue
        lines = text.splitlines(keepends=True) or [""]
        place = rng.randrange(len(lines))
        if kind == 3:
            del lines[place]
        elif kind == 4:
            lines[place:place] = [rng.choice(lines)] * rng.choice((1, 2, 50))
        else:
            lines[place] = rng.choice(WORDS) + rng.choice(("", "\n"))
        text = "".join(lines)
    return text.encode("utf-8", errors="surrogatepass")


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """Replaces, removes, adds or moves values anywhere in a JSON document; sometimes changes its text."""
    if rng.random() < 0.1:
        return mutate_text(content, rng)
    root = {"": json.loads(content)}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(root))
        container, key = rng.choice(places)
        match rng.randrange(8):
            case 0 if container is not root:
                del container[key]
            case 1:
                _add(container, rng)
            case 2:
                other, name = rng.choice(places)
                container[key] = deepcopy(other[name])
            case 3 if isinstance(container[key], list) and container[key]:
                container[key] = container[key] * rng.choice((2, 3, 100)) if len(container[key]) < 100 else []
            case 4 if isinstance(container[key], (int, float)) and not isinstance(container[key], bool):
                halved = container[key] / 2 if abs(container[key]) < 1 << 64 else 0.5
                container[key] = rng.choice((-container[key], halved, str(container[key])))
            case 5 if isinstance(container[key], str):
                container[key] = rng.choice(WORDS)
            case 6:
                container[key] = rng.choice(([container[key]], {"": container[key]}))
            case _:
                container[key] = deepcopy(rng.choice(JSON_VALUES))
    return json.dumps(root[""]).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All containers below a value with a key of each of their values."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        found += [(item, key) for key in keys]
        waiting += [item[key] for key in keys]
    return found


def _add(container: Any, rng: random.Random) -> None:
    value = deepcopy(rng.choice(JSON_VALUES))
    if isinstance(container, dict):
        container[rng.choice(("unknown", "", *map(str, container)))] = value
    else:
        container.insert(rng.randrange(len(container) + 1), value)


MUTATIONS: dict[str, Mutation] = {"bytes": mutate_bytes, "text": mutate_text, "json": mutate_json}
"""Changes by the kind of a file's content."""
