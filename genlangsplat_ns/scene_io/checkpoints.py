"""Reading nerfstudio checkpoints safely with any torch, and telling early when one is broken."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.utils.files import WEIGHTS_ERRORS

MAX_SH_DEGREE = 3
"""The highest degree of harmonics that the rasterizer draws on every device."""


def allow_nerfstudio_checkpoints() -> None:
    """Lets `torch.load(weights_only=True)` read the numpy scalars in stock nerfstudio checkpoints.

    nerfstudio 1.1.5 stores learning rates as `np.float64`, which torch 2.6 and newer refuse unless told otherwise.
    Only these harmless types are allowed; arbitrary pickles stay forbidden.
    """
    scalar = getattr(np.core.multiarray, "scalar")  # noqa: B009 - numpy's type hints leave it out
    torch.serialization.add_safe_globals([scalar, np.dtype, type(np.dtype("float64"))])


def latest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest `step-*.ckpt` of a run's checkpoint folder, or None when there is none."""
    return max(folder.glob("step-*.ckpt"), key=lambda path: int(path.stem.split("-")[1]), default=None)


def check_checkpoint(path: Path) -> None:
    """Raises a clear error when a checkpoint file is missing or was cut off while it was written.

    Raises:
        GenLangSplatError: The file does not exist, or its archive directory cannot be read.
    """
    if not path.is_file():
        raise GenLangSplatError(f"There is no checkpoint {path}. Expected a file written by ns-train; train first.")
    if not zipfile.is_zipfile(path):
        raise GenLangSplatError(
            f"The checkpoint {path} is truncated or not a checkpoint ({path.stat().st_size:,} bytes, no archive "
            "directory at its end). Expected a file written whole by ns-train. Delete it and resume from an older "
            "checkpoint with --load-dir and --load-step, or train again."
        )


@dataclass(frozen=True)
class SplatCheckpoint:
    """What a checkpoint of splatfacto, or of a method built on it, says of a scene."""

    gaussians: GaussianParameters
    """The Gaussians, bit for bit."""
    pose_adjustment: Float32[Tensor, "num_cameras 6"] | None
    """Translation and rotation by which the camera optimizer moved each training view; None without one."""


def read_splat_checkpoint(path: Path, method: str = "an unknown method") -> SplatCheckpoint:
    """Reads the Gaussians of a checkpoint; everything else it holds is neither needed nor loaded.

    Args:
        path: A step-*.ckpt.
        method: The method of its run, for the message when it is of another kind.

    Raises:
        GenLangSplatError: The file is truncated or no checkpoint, or it holds no Gaussians as splatfacto has them.
    """
    check_checkpoint(path)
    try:
        # Mapped, because optimizers and image metrics take several times the room of the Gaussians.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["pipeline"]
        names = [item.name for item in fields(GaussianParameters)]
        found = {_plain_name(key): value for key, value in state.items()}
    except WEIGHTS_ERRORS as error:
        raise GenLangSplatError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}). Expected a step-*.ckpt that "
            "ns-train wrote whole. Name another checkpoint."
        ) from error
    missing = [name for name in names if name not in found]
    if missing:
        raise GenLangSplatError(
            f"{path} is a checkpoint of {method} and lacks the {', '.join(missing)} of Gaussians (its first entries "
            f"are {sorted(state)[:3]}). Expected a checkpoint of splatfacto or gen-langsplat; name another one."
        )
    # Copies outlive the file.
    tensors = {name: found[name].detach().float().clone() for name in names}
    _check_shapes(path, tensors)
    adjustment = found.get("camera_optimizer.pose_adjustment")
    return SplatCheckpoint(
        GaussianParameters(**tensors), None if adjustment is None else adjustment.detach().float().clone()
    )


def _plain_name(key: str) -> str:
    """The name of a parameter without the wrappers around it, which differ between versions and with several GPUs."""
    for prefix in ("module.", "_model.", "module.", "gauss_params."):
        key = key.removeprefix(prefix)
    return key


def _check_shapes(path: Path, tensors: dict[str, Any]) -> None:
    """Raises when the tensors are not those of some Gaussians with harmonics of a known degree."""
    count = len(tensors["means"])
    if count == 0:
        raise GenLangSplatError(f"{path} holds a scene of zero Gaussians. Name another checkpoint.")
    widths = {"means": (3,), "scales": (3,), "quats": (4,), "features_dc": (3,), "opacities": (1,)}
    for name, width in widths.items():
        if tensors[name].shape != (count, *width):
            raise GenLangSplatError(
                f"The {name} in {path} have shape {tuple(tensors[name].shape)}; expected {(count, *width)}. Name a "
                "checkpoint of splatfacto or gen-langsplat."
            )
    allowed = [(count, (degree + 1) ** 2 - 1, 3) for degree in range(MAX_SH_DEGREE + 1)]
    if tuple(tensors["features_rest"].shape) not in allowed:
        raise GenLangSplatError(
            f"The features_rest in {path} have shape {tuple(tensors['features_rest'].shape)}; expected harmonics of "
            f"degree 0 to {MAX_SH_DEGREE}, one of {', '.join(map(str, allowed))}. Train it with "
            f"--pipeline.model.sh-degree {MAX_SH_DEGREE} or less."
        )
