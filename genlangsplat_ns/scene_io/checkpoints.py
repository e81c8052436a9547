"""Reads nerfstudio checkpoints safely with any torch version, and detects broken ones early."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.utils.torch_files import UnusableFileError, is_archive, load_torch_file

MAX_SH_DEGREE = 3
"""The highest degree of spherical harmonics that the rasterizer supports on every device."""


def allow_nerfstudio_checkpoints() -> None:
    """Allows `torch.load(weights_only=True)` to read the numpy scalars in stock nerfstudio checkpoints.

    nerfstudio 1.1.5 stores learning rates as `np.float64`, which torch 2.6 and newer reject by default. Only these
    harmless types are allowed; arbitrary pickles are still rejected.
    """
    scalar = getattr(np.core.multiarray, "scalar")  # noqa: B009 - missing in numpy's type hints
    torch.serialization.add_safe_globals([scalar, np.dtype, type(np.dtype("float64"))])


def latest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest `step-*.ckpt` of a run's checkpoint folder, or None if there is none."""
    return max(folder.glob("step-*.ckpt"), key=checkpoint_step, default=None)


def checkpoint_step(path: Path) -> int:
    """Returns the step in the name of a `step-*.ckpt`."""
    return int(path.stem.split("-")[1])


def check_checkpoint(path: Path) -> None:
    """Raises an error if a checkpoint file is missing or truncated, which shows in its archive directory."""
    if not path.is_file():
        raise GenLangSplatError(f"There is no checkpoint {path}; expected a file written by ns-train. Train first.")
    try:
        whole = is_archive(path)
    except OSError as error:
        raise GenLangSplatError(
            f"The checkpoint {path} cannot be read ({error.strerror or error}). Check the disk and the permissions, "
            "then run the same command again."
        ) from error
    if not whole:
        raise GenLangSplatError(
            f"The checkpoint {path} is truncated or not a checkpoint ({path.stat().st_size:,} bytes, no archive "
            "directory at its end); expected a complete file written by ns-train. Delete it and resume from an older "
            "checkpoint with --load-dir and --load-step, or train again."
        )


def load_checkpoint(path: Path, mmap: bool = True) -> dict[str, Any]:
    """Loads a checkpoint of nerfstudio on the CPU: `pipeline` has named tensors, `step` is a number.

    No code in the file runs. `mmap` maps the tensors into memory instead of reading them.

    Raises:
        GenLangSplatError: The file cannot be read, or is no checkpoint of nerfstudio.
    """
    problem = "it has no entry pipeline with named values"
    try:
        content = load_torch_file(path, mmap)
        pipeline = content.get("pipeline") if isinstance(content, dict) else None
        if isinstance(pipeline, dict) and pipeline and all(isinstance(name, str) for name in pipeline):
            return content
    except UnusableFileError as error:
        problem = str(error)
    raise GenLangSplatError(
        f"{path} cannot be read as a checkpoint ({problem}); expected a complete step-*.ckpt written by ns-train. Use "
        "another checkpoint."
    )


@dataclass(frozen=True)
class SplatCheckpoint:
    """The scene in a checkpoint of splatfacto or of a method based on it."""

    gaussians: GaussianParameters
    pose_adjustment: Float32[Tensor, "num_cameras 6"] | None
    """Translation and rotation that the camera optimizer applies to each training view; None without an optimizer."""


def read_splat_checkpoint(path: Path, method: str = "an unknown method") -> SplatCheckpoint:
    """Reads the Gaussians of a step-*.ckpt file without loading the rest of it. Errors mention `method`.

    Raises:
        GenLangSplatError: The file is truncated, is not a checkpoint, or has no Gaussians in splatfacto's format.
    """
    check_checkpoint(path)
    # Memory-mapped, because optimizers and image metrics are several times larger than the Gaussians.
    state = load_checkpoint(path)["pipeline"]
    found = {_plain_name(key): value for key, value in state.items() if isinstance(value, Tensor)}
    names = [item.name for item in fields(GaussianParameters)]
    missing = [name for name in names if name not in found]
    if missing:
        raise GenLangSplatError(
            f"{path} is a checkpoint of {method} and lacks the {', '.join(missing)} of Gaussians (its first entries "
            f"are {sorted(state)[:3]}); expected a checkpoint of splatfacto or gen-langsplat. Use another checkpoint."
        )
    # Copy, so that the tensors stay valid when the file changes.
    optional = "camera_optimizer.pose_adjustment"
    tensors = {name: found[name].detach().float().clone() for name in (*names, optional) if name in found}
    adjustment = tensors.pop(optional, None)
    _check_shapes(path, tensors)
    return SplatCheckpoint(GaussianParameters(**tensors), adjustment)


def _plain_name(key: str) -> str:
    """Strips the prefixes of a parameter name, which depend on the nerfstudio version and the number of GPUs."""
    for prefix in ("module.", "_model.", "module.", "gauss_params."):
        key = key.removeprefix(prefix)
    return key


def _check_shapes(path: Path, tensors: dict[str, Any]) -> None:
    """Raises an error if the shapes of the parameters are inconsistent, or the degree is not supported."""
    count = len(tensors["means"]) if tensors["means"].ndim else 0
    if count == 0:
        raise GenLangSplatError(f"{path} contains zero Gaussians; expected at least one. Use another checkpoint.")
    widths = {"means": (3,), "scales": (3,), "quats": (4,), "features_dc": (3,), "opacities": (1,)}
    for name, width in widths.items():
        if tensors[name].shape != (count, *width):
            raise GenLangSplatError(
                f"The {name} in {path} have shape {tuple(tensors[name].shape)}; expected {(count, *width)}. Use a "
                "checkpoint of splatfacto or gen-langsplat."
            )
    allowed = [(count, (degree + 1) ** 2 - 1, 3) for degree in range(MAX_SH_DEGREE + 1)]
    if tuple(tensors["features_rest"].shape) not in allowed:
        raise GenLangSplatError(
            f"The features_rest in {path} have shape {tuple(tensors['features_rest'].shape)}; expected spherical "
            f"harmonics of degree 0 to {MAX_SH_DEGREE}, one of {', '.join(map(str, allowed))}. Train with "
            f"--pipeline.model.sh-degree {MAX_SH_DEGREE} or less."
        )
