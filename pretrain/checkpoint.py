"""Checkpoints of a training: one safetensors file each, written whole or not at all, the last two of them kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path, tensors_sha256

FORMAT = "genlangsplat-training-1"
"""Stands in the metadata of every checkpoint."""

KEPT_CHECKPOINTS = 2
"""How many checkpoints stay: should the newest turn out damaged, the one before it is there."""

_TENSOR, _PAIRS = "__tensor__", "__pairs__"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read.

    Attributes:
        path: Its file.
        made_by: What must be the same when the training goes on, by name.
        state: The state of the training.
    """

    path: Path
    made_by: dict[str, Any]
    state: dict[str, Any]


def write_checkpoint(folder: Path, step: int, made_by: dict[str, Any], state: dict[str, Any]) -> Path:
    """Writes a checkpoint and deletes all but the last two.

    Args:
        folder: Where the checkpoints of this training lie; made when it does not exist.
        step: How many steps are done.
        made_by: What must be the same when the training goes on, by name; of JSON values.
        state: Nested dicts, lists and tuples of tensors and JSON values. Tuples come back as lists.

    Raises:
        GenLangSplatError: If it cannot be written, or the state holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    packed = _pack(state, tensors)
    metadata = {
        "format": FORMAT,
        "made_by": json.dumps(made_by),
        "state": json.dumps(packed),
        "sha256": tensors_sha256(tensors),
    }
    path = folder / f"step-{step:09d}.safetensors"
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
        for old in _files(folder)[:-KEPT_CHECKPOINTS]:
            old.unlink()
    except (OSError, SafetensorError) as error:
        raise GenLangSplatError(
            f"The checkpoint {path} cannot be written ({error}). Earlier checkpoints are untouched: make room or give "
            "another folder, then start the same training again, which goes on from the last of them."
        ) from error
    return path


def read_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Reads the newest checkpoint of a folder that is whole; None when there is none at all.

    Raises:
        GenLangSplatError: If there are checkpoints but none of them can be read.
    """
    damage: list[str] = []
    for path in reversed(_files(folder)):
        try:
            checkpoint = _read(path)
        except GenLangSplatError as error:
            damage.append(str(error))
            continue
        for text in damage:
            CONSOLE.print(f"[yellow]{text} Going back to {path.name}.[/yellow]")
        return checkpoint
    if damage:
        raise GenLangSplatError(f"{' '.join(damage)} Delete them to train from the start.")
    return None


def check_same_training(checkpoint: Checkpoint, made_by: dict[str, Any]) -> None:
    """Refuses to go on from a checkpoint of another training.

    Raises:
        GenLangSplatError: If anything in `made_by` differs; the message names both values of each.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(made_by))
    names = sorted({*wanted, *checkpoint.made_by})
    differences = [
        f"{name} is {checkpoint.made_by.get(name)!r} there and {wanted.get(name)!r} here"
        for name in names
        if checkpoint.made_by.get(name) != wanted.get(name)
    ]
    if differences:
        raise GenLangSplatError(
            f"The checkpoint {checkpoint.path} is of another training: {'; '.join(differences)}. Go on with what it "
            "was made by, or give another checkpoint folder."
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
        raise GenLangSplatError(f"The checkpoint {path} is damaged: its values do not have the checksum it states.")
    return Checkpoint(path, json.loads(metadata["made_by"]), _unpack(json.loads(metadata["state"]), tensors))


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Moves the tensors of nested state into `tensors` and gives what JSON can hold, their names in their places."""
    if isinstance(value, Tensor):
        name = f"{len(tensors):05d}"
        # A copy, because safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        # JSON knows no keys but strings, and the state of an optimizer counts its parameters.
        return {_PAIRS: [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise GenLangSplatError(
        f"A checkpoint can hold tensors, numbers, texts, lists and dicts, but the state has a {type(value).__name__}. "
        "Let the source's state_dict() give only these."
    )


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _unpack(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    return value
