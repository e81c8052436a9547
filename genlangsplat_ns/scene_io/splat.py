"""Gaussians in .splat files: 32 bytes each, without harmonics; the format has no header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.packing import HARMONIC, from_arrays, log_scales, logits_of, truncated

ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("colors", "u1", 4), ("quats", "u1", 4)])

SAMPLE = 1024
"""Number of rows that are looked at to tell whether a file is of this format."""


def read_splat(path: Path) -> GaussianParameters:
    """Reads the Gaussians of a .splat file.

    Raises:
        GenLangSplatError: The file is truncated or of another format, or has no Gaussian that can be rendered.
    """
    size = path.stat().st_size
    if size % ROW.itemsize:
        raise truncated(path, ".splat", size, -(-size // ROW.itemsize) * ROW.itemsize)
    rows = np.fromfile(path, dtype=ROW)
    sample = rows[:SAMPLE]
    with np.errstate(invalid="ignore"):
        real = np.isfinite(sample["means"]).all(axis=1) & (np.abs(sample["scales"] - 5e5) <= 5e5).all(axis=1)
    if 2 * np.count_nonzero(real) < len(sample):
        raise GenLangSplatError(
            f"{path} is named .splat, but most of its positions and sizes are no numbers of a scene; expected 32 bytes "
            "a Gaussian: position, size, color and rotation. Use another file."
        )
    return from_arrays(
        path,
        rows["means"],
        log_scales(rows["scales"]),
        rows["quats"] / 128.0 - 1.0,
        (rows["colors"][:, :3] / 255.0 - 0.5) / HARMONIC,
        np.zeros((len(rows), 0, 3)),
        logits_of(rows["colors"][:, 3] / 255.0),
    )
