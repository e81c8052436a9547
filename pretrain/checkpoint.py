"""Checkpoints of a training: safetensors files, written atomically. The last two are kept."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import atomic_path, tensors_sha256

LOGGER = logging.getLogger(__name__)

FORMAT = "genlangsplat-training-1"
"""Format name in the metadata of each checkpoint."""

KEPT_CHECKPOINTS = 2
"""Number of checkpoints to keep: a second one in case the newest is damaged."""

_TENSOR, _PAIRS = "__tensor__", "__pairs__"


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file; `config` has the settings that must be the same when the training resumes."""

    path: Path
    config: dict[str, Any]
    state: dict[str, Any]


def write_checkpoint(folder: Path, step: int, config: dict[str, Any], state: dict[str, Any]) -> Path:
    """Writes a checkpoint and deletes all but the last two.

    Args:
        folder: Folder of the checkpoints of this training; created if it does not exist.
        step: Number of completed steps.
        config: The settings that must be the same when the training resumes; JSON values.
        state: Nested dicts, lists and tuples of tensors and JSON values. Tuples are read back as lists.

    Raises:
        GenLangSplatError: If it cannot be written, or the state contains other values.
    """
    tensors: dict[str, Tensor] = {}
    metadata = {"format": FORMAT, "made_by": json.dumps(config), "state": json.dumps(_pack(state, tensors))}
    metadata["sha256"] = tensors_sha256(tensors)
    path = folder / f"step-{step:09d}.safetensors"
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
        for old in _files(folder)[:-KEPT_CHECKPOINTS]:
            old.unlink()
    except (OSError, SafetensorError) as error:
        raise GenLangSplatError(
            f"The checkpoint {path} cannot be written ({error}). Earlier checkpoints are intact. Free disk space or "
            "give another folder, then start the same training again to resume from the last checkpoint."
        ) from error
    return path


def read_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Reads the newest intact checkpoint of a folder; None if there are no checkpoints.

    Raises:
        GenLangSplatError: If there are checkpoints but none can be read.
    """
    damage: list[str] = []
    for path in reversed(_files(folder)):
        try:
            checkpoint = _read(path)
        except GenLangSplatError as error:
            damage.append(str(error))
            continue
        for text in damage:
            LOGGER.warning("%s Using %s instead.", text, path.name)
        return checkpoint
    if damage:
        raise GenLangSplatError(f"{' '.join(damage)} Delete them to train from the start.")
    return None


def check_same_training(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Checks that a checkpoint belongs to the training that resumes.

    Raises:
        GenLangSplatError: If any setting in `config` differs; the message has both values of each.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(config))
    names = sorted({*wanted, *checkpoint.config})
    differences = [
        f"{name} is {checkpoint.config.get(name)!r} there and {wanted.get(name)!r} here"
        for name in names
        if checkpoint.config.get(name) != wanted.get(name)
    ]
    if differences:
        raise GenLangSplatError(
            f"The checkpoint {checkpoint.path} is of another training: {'; '.join(differences)}. Resume with the "
            "settings of the checkpoint, or give another checkpoint folder."
        )


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _read(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise GenLangSplatError(
            f"The checkpoint {path} cannot be read ({error}); it is truncated or damaged."
        ) from error
    if metadata.get("format") != FORMAT:
        raise GenLangSplatError(
            f"{path} is not a checkpoint of this version: its format is {metadata.get('format')!r}, expected "
            f"{FORMAT!r}."
        )
    if metadata.get("sha256") != tensors_sha256(tensors):
        raise GenLangSplatError(f"The checkpoint {path} is damaged: its tensors do not have the stored checksum.")
    return Checkpoint(path, json.loads(metadata["made_by"]), _unpack(json.loads(metadata["state"]), tensors))


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Moves the tensors of a nested state into `tensors`, and returns the state as JSON with their names instead."""
    if isinstance(value, Tensor):
        name = f"{len(tensors):05d}"
        # A copy, because safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        # JSON keys are strings, but the state of an optimizer has integer keys.
        return {_PAIRS: [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise GenLangSplatError(
        f"A checkpoint can contain tensors, numbers, strings, lists and dicts, but the state has a "
        f"{type(value).__name__}. The source's state_dict() must return only these."
    )


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _unpack(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    return value
