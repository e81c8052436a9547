"""Masks as lengths of runs, as in COCO: alternately without and with the object, down the columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import Mask

FIRST_CHARACTER = 48
"""Code of the character that stands for 0."""


def mask_of_runs(counts: Any, width: int, height: int) -> Mask:
    """Returns the mask of a list of counts, or of their compressed string.

    Raises:
        GenLangSplatError: If the counts are unusable or do not fill an image of this size. The message has no file.
    """
    if isinstance(counts, str):
        counts = decompress(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise GenLangSplatError("the counts of the mask are not whole numbers from 0")
    if sum(counts) != width * height:
        raise GenLangSplatError(
            f"the counts of the mask add up to {sum(counts)}, but the image of {width}x{height} has {width * height} "
            "pixels"
        )
    shown = np.arange(len(counts)) % 2 == 1
    return np.repeat(shown, counts).reshape(width, height).T


def decompress(text: str) -> list[int]:
    """Returns the counts of a compressed string, as written by COCO's tools.

    Every character holds five bits of a number, the lowest first, and one that tells whether more follow; the last one
    is the sign. From the fourth on, numbers are differences from the count two places before.

    Raises:
        GenLangSplatError: If the string has other characters, or ends inside a number. The message has no file.
    """
    counts: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - FIRST_CHARACTER
        if not 0 <= code < 64 or bits > 40:
            raise GenLangSplatError(f"the compressed counts of the mask contain {character!r} in a wrong place")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = bits = 0
    if bits:
        raise GenLangSplatError("the compressed counts of the mask are truncated")
    return counts
