"""Numeric arrays as `.npy` files; of those of unknown origin, the size is checked before memory is taken."""

from __future__ import annotations

import io
import re
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"

MAX_HEADER = 4096
"""Bytes of a header; that of a numeric array has about 100."""

HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<type>[<>|=]?[iuf][1248])',\s*'fortran_order':\s*(?P<columns>True|False),\s*"
    r"'shape':\s*\((?P<shape>[\d, ]{0,200})\),?\s*\}\s*",
    re.ASCII,
)
"""What numpy writes for an array of numbers."""


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Writes an array as `numpy.save` does, which does not say why it could not write.

    Raises:
        OSError: The file cannot be written; the error has the reason.
    """
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    path.write_bytes(content.getbuffer())


def read_array(path: Path) -> NDArray[np.integer[Any]] | NDArray[np.floating[Any]]:
    """Reads an array of integers or floating-point numbers as `numpy.save` writes it.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is something else, or shorter or longer than its header says.
    """
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + 2)
        if start[:-2] != MAGIC:
            raise ValueError(f"it starts with {start[:6]!r}, expected the {MAGIC!r} of a .npy file")
        length = int.from_bytes(file.read(2 if start[-2] == 1 else 4), "little")
        text = file.read(min(length, MAX_HEADER)).decode("latin-1")
        found = HEADER.fullmatch(text)
        if found is None:
            raise ValueError(f"its header is {text[:80]!r}, expected that of a numeric array")
        kind = np.dtype(found["type"])
        shape = tuple(int(size[-20:]) for size in found["shape"].replace(" ", "").split(",") if size)
        stored = path.stat().st_size - file.tell()
        if stored != prod(shape) * kind.itemsize:
            expected = f"{prod(shape) * kind.itemsize:,} for the shape {shape} and the type {kind.name}"
            raise ValueError(f"it has {stored:,} bytes of numbers, expected {expected}")
        numbers = np.fromfile(file, kind)
    # Reading is the only place of the byte order of another machine.
    numbers = numbers.astype(kind.newbyteorder("="), copy=False)
    return numbers.reshape(shape, order="F" if found["columns"] == "True" else "C")
