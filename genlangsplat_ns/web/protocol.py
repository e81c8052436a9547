"""The format in which the page gets scores: one byte per text, plane and Gaussian.

A file has the length of its header as 4 bytes (little endian), the header as JSON, and the bytes. A byte of 0 means
that no region was ever seen on the Gaussian; a byte k from 1 to 255 stands for low + (k - 1) / 254 (high - low), with
the limits of its plane in the header.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

STEPS = 254
"""Number of steps from the lowest to the highest value of a plane."""

LENGTH = struct.Struct("<I")

Kind = Literal["cosines", "relevancy"]
"""`cosines` has one plane per level, from which the page computes the relevancy; `relevancy` has one plane in all."""


@dataclass(frozen=True, eq=False)
class TextScores:
    """The scores of one text, in bytes."""

    text: str
    planes: UInt8[np.ndarray, "planes num_gaussians"]
    limits: tuple[tuple[float, float], ...]
    """The lowest and highest value of each plane."""

    @property
    def nbytes(self) -> int:
        """The bytes that the scores take in memory."""
        return self.planes.nbytes

    def values(self) -> Float[np.ndarray, "planes num_gaussians"]:
        """Returns the values that the bytes stand for; NaN for 0."""
        low, high = np.array(self.limits, dtype=np.float32).T[:, :, None]
        values = low + (self.planes.astype(np.float32) - 1) / STEPS * (high - low)
        return np.where(self.planes == 0, np.float32(np.nan), values)


def quantize(
    text: str, values: Float[np.ndarray, "planes num_gaussians"], limits: tuple[float, float] | None = None
) -> TextScores:
    """Rounds the values of a text to bytes; NaN becomes 0.

    The limits of a plane are its extremes, unless they are given for all planes.
    """
    bytes_, found = np.zeros(values.shape, np.uint8), []
    for row, plane in zip(bytes_, values, strict=True):
        seen = ~np.isnan(plane)
        low, high = (0.0, 0.0) if not seen.any() else (float(plane[seen].min()), float(plane[seen].max()))
        low, high = (low, high) if limits is None else limits
        with np.errstate(invalid="ignore"):
            steps = np.rint((plane - low) * (STEPS / (high - low) if high > low else 0.0))
        row[seen] = 1 + steps[seen].clip(0, STEPS).astype(np.uint8)
        found.append((low, high))
    return TextScores(text, bytes_, tuple(found))


def pack(kind: Kind, scores: Sequence[TextScores]) -> bytes:
    """Returns the scores of some texts of one scene as a file."""
    texts = [
        {"text": each.text, "planes": [{"low": low, "high": high} for low, high in each.limits]} for each in scores
    ]
    count = scores[0].planes.shape[1] if scores else 0
    header = json.dumps({"kind": kind, "count": count, "texts": texts}).encode()
    return b"".join([LENGTH.pack(len(header)), header, *(each.planes.tobytes() for each in scores)])


def unpack(data: bytes) -> tuple[Kind, list[TextScores]]:
    """Reads what `pack` returned."""
    (length,) = LENGTH.unpack_from(data)
    header = json.loads(data[LENGTH.size : LENGTH.size + length])
    first, found = LENGTH.size + length, []
    for item in header["texts"]:
        limits = tuple((plane["low"], plane["high"]) for plane in item["planes"])
        planes = np.frombuffer(data, np.uint8, len(limits) * header["count"], first).reshape(len(limits), -1)
        found.append(TextScores(item["text"], planes, limits))
        first += planes.nbytes
    return header["kind"], found
