"""Finds, downloads and reads SAM's weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import SamSettings
from genlangsplat_ns.utils.downloads import download
from genlangsplat_ns.utils.files import file_sha256
from genlangsplat_ns.utils.weight_files import read_weights

LOGGER = logging.getLogger(__name__)

_URL = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A published weights file."""

    file_name: str
    sha256: str
    gigabytes: float
    folder: str = _URL
    """Address of the folder with the file."""

    @property
    def url(self) -> str:
        """Download address."""
        return self.folder + self.file_name


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
"""Weights that Meta published with SAM."""


def weights_folder() -> Path:
    """Returns the folder in which this project caches weights."""
    return Path(platformdirs.user_cache_dir("genlangsplat-ns")) / "weights"


def find_checkpoint(settings: SamSettings) -> Path | None:
    """Returns the weights file on this machine, or None; opens and downloads nothing."""
    if settings.checkpoint is not None:
        return settings.checkpoint if settings.checkpoint.is_file() else None
    official = OFFICIAL_CHECKPOINTS.get(settings.model)
    if official is None:
        return None
    folders = (weights_folder(), Path(torch.hub.get_dir()) / "checkpoints")
    return next((folder / official.file_name for folder in folders if (folder / official.file_name).is_file()), None)


def checkpoint_identity(settings: SamSettings) -> str:
    """Returns the identity of the weights: the model for official weights, model and hash for a custom file."""
    if settings.checkpoint is None:
        return settings.model
    if not settings.checkpoint.is_file():
        raise missing_checkpoint(settings)
    digest = file_sha256(settings.checkpoint)
    official = OFFICIAL_CHECKPOINTS.get(settings.model)
    return settings.model if official and digest == official.sha256 else f"{settings.model}@{digest[:12]}"


def require_checkpoint(settings: SamSettings, download: bool) -> Path:
    """Returns the weights file; downloads it if it is missing and `download` is set."""
    path = find_checkpoint(settings)
    official = OFFICIAL_CHECKPOINTS.get(settings.model)
    if path is None:
        if official is None or settings.checkpoint is not None or not download:
            raise missing_checkpoint(settings)
        return _download(official)
    if official is not None and settings.checkpoint is None and file_sha256(path) != official.sha256:
        raise GenLangSplatError(
            f"{path} ({path.stat().st_size:,} bytes) is not the published file (about "
            f"{official.gigabytes:.2f} GB, sha256 {official.sha256[:12]}...); a download may have been interrupted. "
            "Delete it and run again with --download-weights, or give another file with --sam.checkpoint."
        )
    return path


def missing_checkpoint(settings: SamSettings) -> GenLangSplatError:
    """Returns the error about weights that are not on this machine."""
    if settings.checkpoint is not None:
        return GenLangSplatError(
            f"The weights file {settings.checkpoint} of --sam.checkpoint does not exist. Give an existing file."
        )
    official = OFFICIAL_CHECKPOINTS.get(settings.model)
    if official is None:
        return GenLangSplatError(
            f"There is no official checkpoint of SAM {settings.model!r}. Choose one of "
            f"{', '.join(OFFICIAL_CHECKPOINTS)}, or give a file with --sam.checkpoint."
        )
    return GenLangSplatError(
        f"SAM's weights {official.file_name} are not on this machine. Run again with --download-weights to download "
        f"them ({official.gigabytes:.2f} GB from {official.url}), put the file into {weights_folder()}, "
        "give a file with --sam.checkpoint, or choose the masks watershed, which need no weights."
    )


def _download(official: OfficialCheckpoint) -> Path:
    target = weights_folder() / official.file_name
    LOGGER.info("Downloading SAM's weights: %.2f GB from %s to %s", official.gigabytes, official.url, target)
    return download(official.url, target, official.sha256)


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Reads a weights file of SAM without executing code from it; training checkpoints and safetensors are read too."""
    file = read_weights(path)
    if file.kind not in (None, "SAM"):
        advice = (
            "Give CLIP's weights with --open-clip.weights"
            if file.kind.startswith("CLIP")
            else "The masks sam run the original SAM: give one of its files "
            f"({', '.join(official.file_name for official in OFFICIAL_CHECKPOINTS.values())}, from {_URL})"
        )
        raise GenLangSplatError(f"{path} has weights of {file.kind}, not of SAM. {advice}.")
    return file.tensors


def model_of_width(width: int) -> str | None:
    """Returns the official model whose image encoder has this number of channels, or None."""
    return {1280: "vit_h", 1024: "vit_l", 768: "vit_b"}.get(width)
