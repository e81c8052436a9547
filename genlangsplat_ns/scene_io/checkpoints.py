"""Reading nerfstudio checkpoints safely with any torch, and telling early when one is broken."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from genlangsplat_ns.errors import GenLangSplatError


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
