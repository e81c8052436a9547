"""What files of Gaussians have in common: rotations in three numbers, opacities in bytes, and checks."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters

LOGGER = logging.getLogger(__name__)

HARMONIC = 0.28209479177387814
"""The constant harmonic."""

NEAR_ZERO = 1e-6
"""Opacities of 0 and 1 are read as this far from them, because their logits are infinite."""

SMALLEST_SCALE = 1e-9
"""A standard deviation of zero is read as this."""

ALWAYS_ALLOWED = 1 << 22
"""A file may unpack to this number of bytes, however small it is."""

LARGEST_RATIO = 50
"""A larger file may unpack to this many times its size. Real scenes are below 10."""

OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The other three components of a quaternion by its largest one."""


def check_unpacked_size(path: Path, unpacked: int, stored: int) -> None:
    """Checks that a compressed file of `stored` bytes can be real, before memory for the `unpacked` bytes is taken.

    Raises:
        GenLangSplatError: It unpacks to far more than scenes do.
    """
    if unpacked > max(ALWAYS_ALLOWED, LARGEST_RATIO * stored):
        raise GenLangSplatError(
            f"{path} has {stored:,} bytes and says that it unpacks to {unpacked:,}; expected at most {LARGEST_RATIO} "
            "times its size. It is damaged, or made to exhaust the memory, and was not unpacked. Export it again."
        )


def truncated(path: Path, kind: str, found: int, expected: int) -> GenLangSplatError:
    """Returns the error for a file that ends too early."""
    return GenLangSplatError(
        f"{path} is a truncated {kind} file: it has {found:,} of {expected:,} bytes. Copy, download or export it again."
    )


def from_arrays(
    path: Path,
    means: Float[np.ndarray, "count 3"],
    scales: Float[np.ndarray, "count 3"],
    quats: Float[np.ndarray, "count 4"],
    constant: Float[np.ndarray, "count 3"],
    rest: Float[np.ndarray, "count bases 3"],
    logits: Float[np.ndarray, " count"],
) -> GaussianParameters:
    """Makes parameters of the arrays of a file; the scales are logarithms, the quaternions w, x, y, z.

    Gaussians with NaN, an infinite value or a zero quaternion are dropped with a warning, as by `read_ply`.

    Raises:
        GenLangSplatError: There are no Gaussians, or none that can be rendered.
    """
    arrays = [means, scales, quats, constant, rest, logits[:, None]]
    count = len(means)
    if count == 0:
        raise GenLangSplatError(f"{path} contains no Gaussians. Export the scene again, or use another file.")
    with np.errstate(over="ignore"):
        arrays = [np.ascontiguousarray(array, dtype=np.float32) for array in arrays]
    usable = np.logical_and.reduce([np.isfinite(array).reshape(count, -1).all(axis=1) for array in arrays])
    usable &= arrays[2].any(axis=1)
    dropped = count - int(np.count_nonzero(usable))
    if dropped == count:
        raise GenLangSplatError(
            f"None of the {count:,} Gaussians in {path} can be rendered: all have NaN, an infinite value or a zero "
            "quaternion. Export the scene again."
        )
    if dropped:
        LOGGER.warning(
            "%s: %s of %s Gaussians are dropped because they have NaN, an infinite value or a zero quaternion.",
            *(path, f"{dropped:,}", f"{count:,}"),
        )
        arrays = [array[usable] for array in arrays]
    return GaussianParameters(*(torch.from_numpy(array) for array in arrays))


def as_arrays(gaussians: GaussianParameters) -> dict[str, np.ndarray]:
    """Returns the parameters by name as arrays on the CPU; the quaternions have length 1."""
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in gaussians.tensors().items()}
    # The squares of very short and very long ones are zero or infinite in single precision.
    quats = arrays["quats"].astype(np.float64)
    arrays["quats"] = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    return arrays


def logits_of(opacities: Float[np.ndarray, " count"]) -> Float[np.ndarray, " count"]:
    """Returns the logits of opacities in 0..1."""
    inside = np.clip(opacities.astype(np.float64), NEAR_ZERO, 1 - NEAR_ZERO)
    return np.log(inside) - np.log1p(-inside)


def opacities_of(logits: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, " count"]:
    """Returns the opacities of logits, in one row."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits.astype(np.float64).reshape(-1)))


def log_scales(scales: Float[np.ndarray, "count 3"]) -> Float[np.ndarray, "count 3"]:
    """Returns the logarithms of standard deviations; NaN for negative ones."""
    with np.errstate(invalid="ignore"):
        return np.log(np.where(scales >= 0, np.maximum(scales, SMALLEST_SCALE), np.nan))


def to_bytes(values: Float[np.ndarray, "*shape"]) -> np.ndarray:
    """Rounds numbers to bytes; those outside of 0..255 become the nearest byte."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def largest_and_others(
    quats: Float[np.ndarray, "count 4"],
) -> tuple[Int[np.ndarray, " count"], Float[np.ndarray, "count 3"]]:
    """Returns the index of the largest component of unit quaternions, and the others if that one is positive.

    The others are in their order, and at most 1 / sqrt(2).
    """
    largest = np.abs(quats).argmax(axis=1)
    rows = np.arange(len(quats))
    signs = np.where(quats[rows, largest] < 0, -1.0, 1.0)[:, None]
    return largest, quats[rows[:, None], OTHERS[largest]] * signs


def from_largest_and_others(
    largest: Int[np.ndarray, " count"], others: Float[np.ndarray, "count 3"]
) -> Float[np.ndarray, "count 4"]:
    """Returns unit quaternions from what `largest_and_others` returns."""
    quats = np.empty((len(others), 4))
    rows = np.arange(len(others))
    quats[rows[:, None], OTHERS[largest]] = others
    quats[rows, largest] = np.sqrt(np.maximum(0.0, 1.0 - np.square(others).sum(axis=1)))
    return quats
