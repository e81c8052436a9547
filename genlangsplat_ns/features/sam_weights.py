"""Where SAM's weights lie, how they are fetched, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import SamSettings
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import WEIGHTS_ERRORS, file_sha256

_URL = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A published file of weights."""

    file_name: str
    sha256: str
    gigabytes: float

    @property
    def url(self) -> str:
        """Where it is published."""
        return _URL + self.file_name


OFFICIAL_CHECKPOINTS = {
    "vit_h": OfficialCheckpoint(
        "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2.56
    ),
    "vit_l": OfficialCheckpoint(
        "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", 1.25
    ),
    "vit_b": OfficialCheckpoint(
        "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 0.38
    ),
}
"""The weights that Meta published with SAM."""


def weights_folder() -> Path:
    """The project's own cache of weights."""
    return Path(platformdirs.user_cache_dir("genlangsplat-ns")) / "weights"


def find_checkpoint(settings: SamSettings) -> Path | None:
    """Where the weights lie on this machine, or None; nothing is opened or downloaded."""
    if settings.checkpoint is not None:
        return settings.checkpoint if settings.checkpoint.is_file() else None
    official = OFFICIAL_CHECKPOINTS.get(settings.model)
    if official is None:
        return None
    folders = (weights_folder(), Path(torch.hub.get_dir()) / "checkpoints")
    return next((folder / official.file_name for folder in folders if (folder / official.file_name).is_file()), None)


def checkpoint_identity(settings: SamSettings) -> str:
    """Says which weights the settings mean: the model for the official ones, model and hash for a file of one's own.

    Raises:
        GenLangSplatError: If a file of one's own is not there.
    """
    if settings.checkpoint is None:
        return settings.model
    if not settings.checkpoint.is_file():
        raise _missing(settings)
    digest = file_sha256(settings.checkpoint)
    official = OFFICIAL_CHECKPOINTS.get(settings.model)
    return settings.model if official and digest == official.sha256 else f"{settings.model}@{digest[:12]}"


def require_checkpoint(settings: SamSettings, download: bool) -> Path:
    """Returns the file of weights, fetched if that is wanted and needed.

    Raises:
        GenLangSplatError: If it is not there and may not or cannot be downloaded, or if an official file is damaged.
    """
    path = find_checkpoint(settings)
    official = OFFICIAL_CHECKPOINTS.get(settings.model)
    if path is None:
        if official is None or settings.checkpoint is not None or not download:
            raise _missing(settings)
        return _download(official)
    if official is not None and settings.checkpoint is None and file_sha256(path) != official.sha256:
        raise GenLangSplatError(
            f"{path} ({path.stat().st_size:,} bytes) is not the file that was published (about "
            f"{official.gigabytes:.2f} GB, sha256 {official.sha256[:12]}...); a download may have broken off. Delete "
            "it and run again with --download-weights, or name a file of your own with --sam.checkpoint."
        )
    return path


def require_presence(settings: SamSettings) -> None:
    """Raises when the weights are not on this machine; nothing is read or downloaded.

    Raises:
        GenLangSplatError: If they are missing.
    """
    if find_checkpoint(settings) is None:
        raise _missing(settings)


def _missing(settings: SamSettings) -> GenLangSplatError:
    if settings.checkpoint is not None:
        return GenLangSplatError(
            f"There is no file {settings.checkpoint}, which --sam.checkpoint names as SAM's weights."
        )
    official = OFFICIAL_CHECKPOINTS.get(settings.model)
    if official is None:
        return GenLangSplatError(
            f"There is no official checkpoint of a SAM {settings.model!r}; choose one of "
            f"{', '.join(OFFICIAL_CHECKPOINTS)}, or name a file with --sam.checkpoint."
        )
    return GenLangSplatError(
        f"SAM's weights {official.file_name} are not on this machine. Run again with --download-weights to fetch them "
        f"({official.gigabytes:.2f} GB from {official.url}), put that file into {weights_folder()}, name one with "
        "--sam.checkpoint, or choose the masks watershed, which need none."
    )


def _download(official: OfficialCheckpoint) -> Path:
    target = weights_folder() / official.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    CONSOLE.print(
        f"Downloading SAM's weights: {official.gigabytes:.2f} GB from {official.url} to {escape(str(target))}"
    )
    try:
        # It writes to a temporary name, compares the hash, and only then renames.
        torch.hub.download_url_to_file(official.url, str(target), hash_prefix=official.sha256)
    except (OSError, RuntimeError) as error:
        raise GenLangSplatError(
            f"{official.url} could not be downloaded ({error}). Fetch it by other means into {target.parent}."
        ) from error
    return target


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a file of weights without running anything it holds.

    Raises:
        GenLangSplatError: If it is truncated or no file of weights.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except WEIGHTS_ERRORS as error:
        raise GenLangSplatError(
            f"{path} ({path.stat().st_size:,} bytes) is truncated or no file of weights ({type(error).__name__}). "
            "Fetch it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise GenLangSplatError(f"{path} holds {type(state).__name__}, expected the named weights of a model.")
    return state
