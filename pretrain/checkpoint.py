"""The checkpoint of a training: one file of `torch.save`, replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import atomic_path, write_state
from genlangsplat_ns.utils.json_files import object_of, parse_json, text_of
from genlangsplat_ns.utils.torch_files import UnusableFileError, load_torch_file

CHECKPOINT_NAME = "checkpoint.pt"


def write_checkpoint(folder: Path, config: dict[str, Any], state: dict[str, Any]) -> None:
    """Writes the checkpoint of a folder, which is created if it does not exist.

    `config` has the settings that must be the same when the training resumes, as JSON values.

    Raises:
        GenLangSplatError: If it cannot be written.
    """
    path = folder / CHECKPOINT_NAME
    try:
        with atomic_path(path) as temporary:
            write_state(temporary, {"config": json.dumps(config), "state": state})
    except OSError as error:
        raise GenLangSplatError(
            f"The checkpoint {path} cannot be written ({error.strerror or error}). An earlier one is intact. Free disk "
            "space or give another output file, then start the same training again to resume from it."
        ) from error


def read_checkpoint(folder: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """Reads the state in the checkpoint of a folder; None if there is no checkpoint.

    Raises:
        GenLangSplatError: If the checkpoint is damaged, or of a training with other settings.
    """
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None
    try:
        found = object_of(load_torch_file(path, checksums=True), "the content")
        made_by = object_of(parse_json(text_of(found.get("config"), "config")), "config")
        state = object_of(found.get("state"), "state")
    except (ValueError, UnusableFileError) as error:
        raise damaged_checkpoint(folder, error) from error
    differences = [
        f"{name} is {made_by.get(name)!r} there and {config.get(name)!r} here"
        for name in sorted({*config, *made_by})
        if made_by.get(name) != config.get(name)
    ]
    if differences:
        raise GenLangSplatError(
            f"The checkpoint {path} is of another training: {'; '.join(differences)}. Resume with its settings, give "
            "another output file, or delete it."
        )
    return state


def damaged_checkpoint(folder: Path, error: Exception) -> GenLangSplatError:
    """Returns the error about a checkpoint that cannot be used."""
    reason = str(error).strip().split("\n")[0]
    return GenLangSplatError(
        f"The checkpoint {folder / CHECKPOINT_NAME} is damaged or not of this version ({type(error).__name__}: "
        f"{reason}). Delete it to train from the start."
    )
