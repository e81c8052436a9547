"""Finds, downloads and reads the weights of SAM and SAM 2.1."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.settings import Sam2Settings, SamSettings
from genlangsplat_ns.utils.downloads import download
from genlangsplat_ns.utils.files import file_sha256
from genlangsplat_ns.utils.weight_files import read_weights

LOGGER = logging.getLogger(__name__)

_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
_URL_2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"


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

SAM2_CHECKPOINTS = {
    "hiera_large": OfficialCheckpoint(
        "sam2.1_hiera_large.pt", "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 0.90, _URL_2
    ),
    "hiera_base_plus": OfficialCheckpoint(
        "sam2.1_hiera_base_plus.pt", "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 0.32, _URL_2
    ),
    "hiera_small": OfficialCheckpoint(
        "sam2.1_hiera_small.pt", "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 0.18, _URL_2
    ),
    "hiera_tiny": OfficialCheckpoint(
        "sam2.1_hiera_tiny.pt", "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 0.16, _URL_2
    ),
}
"""Weights that Meta published with SAM 2.1.

The hashes are those that many public projects recorded of these files. They were not downloaded here; a download with
another hash is refused.
"""


@dataclass(frozen=True)
class SamRelease:
    """A version of SAM with its published weights."""

    name: str
    masks: str
    """Name of the masks, which begins the names of their settings."""
    kind: str
    """What `WeightsFile.kind` calls its weights."""
    checkpoints: dict[str, OfficialCheckpoint]
    width_of: str
    """Name of the weight whose dimension `width_axis` is the number of channels of the image encoder."""
    width_axis: int


SAM = SamRelease("SAM", "sam", "SAM", OFFICIAL_CHECKPOINTS, "image_encoder.pos_embed", -1)
SAM2 = SamRelease("SAM 2.1", "sam2", "SAM 2", SAM2_CHECKPOINTS, "image_encoder.trunk.patch_embed.proj.weight", 0)


def release_of(settings: SamSettings) -> SamRelease:
    """Returns the version of SAM that these settings belong to."""
    return SAM2 if isinstance(settings, Sam2Settings) else SAM


def weights_folder() -> Path:
    """Returns the folder in which this project caches weights."""
    return Path(platformdirs.user_cache_dir("genlangsplat-ns")) / "weights"


def official_checkpoint(settings: SamSettings) -> OfficialCheckpoint | None:
    """Returns the published weights of a model, or None."""
    return release_of(settings).checkpoints.get(settings.model)


def find_checkpoint(settings: SamSettings) -> Path | None:
    """Returns the weights file on this machine, or None; opens and downloads nothing."""
    if settings.checkpoint is not None:
        return settings.checkpoint if settings.checkpoint.is_file() else None
    official = official_checkpoint(settings)
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
    official = official_checkpoint(settings)
    return settings.model if official and digest == official.sha256 else f"{settings.model}@{digest[:12]}"


def require_checkpoint(settings: SamSettings, download: bool) -> Path:
    """Returns the weights file; downloads it if it is missing and `download` is set."""
    path = find_checkpoint(settings)
    official, release = official_checkpoint(settings), release_of(settings)
    if path is None:
        if official is None or settings.checkpoint is not None or not download:
            raise missing_checkpoint(settings)
        return _download(release, official)
    if official is not None and settings.checkpoint is None and file_sha256(path) != official.sha256:
        raise GenLangSplatError(
            f"{path} ({path.stat().st_size:,} bytes) is not the published file (about "
            f"{official.gigabytes:.2f} GB, sha256 {official.sha256[:12]}...); a download may have been interrupted. "
            f"Delete it and run again with --download-weights, or give another file with --{release.masks}.checkpoint."
        )
    return path


def missing_checkpoint(settings: SamSettings) -> GenLangSplatError:
    """Returns the error about weights that are not on this machine."""
    release = release_of(settings)
    option = f"--{release.masks}.checkpoint"
    if settings.checkpoint is not None:
        return GenLangSplatError(
            f"The weights file {settings.checkpoint} of {option} does not exist. Give an existing file."
        )
    official = official_checkpoint(settings)
    if official is None:
        return GenLangSplatError(
            f"There is no official checkpoint of {release.name} {settings.model!r}. Choose one of "
            f"{', '.join(release.checkpoints)}, or give a file with {option}."
        )
    return GenLangSplatError(
        f"{release.name}'s weights {official.file_name} are not on this machine. Run again with --download-weights to "
        f"download them ({official.gigabytes:.2f} GB from {official.url}), put the file into {weights_folder()}, "
        f"give a file with {option}, or choose the masks watershed, which need no weights."
    )


def _download(release: SamRelease, official: OfficialCheckpoint) -> Path:
    target = weights_folder() / official.file_name
    LOGGER.info(
        "Downloading %s's weights: %.2f GB from %s to %s", release.name, official.gigabytes, official.url, target
    )
    return download(official.url, target, official.sha256)


def read_checkpoint(path: Path, settings: SamSettings | None = None) -> dict[str, torch.Tensor]:
    """Reads a weights file without executing code from it; training checkpoints and safetensors are read too.

    Args:
        path: The file.
        settings: Settings of sam or sam2, whose weights the file must have; None for sam.

    Raises:
        GenLangSplatError: The file cannot be read, or has weights of another model.
    """
    release, file = release_of(settings or SamSettings()), read_weights(path)
    if file.kind not in (None, release.kind):
        other = next((known for known in (SAM, SAM2) if known.kind == file.kind), None)
        if file.kind.startswith("CLIP"):
            advice = "Give CLIP's weights with --open-clip.weights"
        else:
            official = next(iter(release.checkpoints.values()))
            names = ", ".join(checkpoint.file_name for checkpoint in release.checkpoints.values())
            also = "" if other is None else f", or choose the masks {other.masks} with --{other.masks}.checkpoint"
            version = "the original SAM" if release is SAM else release.name
            advice = f"The masks {release.masks} run {version}: give one of its files ({names}, from {official.folder})"
            advice += also
        raise GenLangSplatError(f"{path} has weights of {file.kind}, not of {release.name}. {advice}.")
    return file.tensors


def check_fit(
    path: Path, settings: SamSettings, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Compares the names and shapes of a file's weights with those of a model.

    Raises:
        GenLangSplatError: They differ; names the model that the weights belong to, if it is known.
    """
    release = release_of(settings)
    shapes = [{name: tuple(value.shape) for name, value in weights.items()} for weights in (found, expected)]
    if shapes[0] == shapes[1]:
        return
    widths = [
        weights[release.width_of].shape[release.width_axis] if release.width_of in weights else 0
        for weights in (found, expected)
    ]
    fitting = model_of_weights(found) if release is SAM2 else model_of_width(widths[0])
    if fitting == settings.model:
        advice = f"It is damaged, or of another version of SAM. Give {release.checkpoints[fitting].url}"
    else:
        advice = f"Give the model it belongs to with --{release.masks}.model{'' if fitting is None else f' {fitting}'}"
    raise GenLangSplatError(
        f"{path} does not fit {release.name} {settings.model}: it has {len(found)} weights and an image encoder with "
        f"{widths[0] or 'an unknown number of'} channels, expected {len(expected)} weights and "
        f"{widths[1]} channels. {advice}."
    )


def model_of_width(width: int) -> str | None:
    """Returns the official model of SAM whose image encoder has this number of channels, or None."""
    return {1280: "vit_h", 1024: "vit_l", 768: "vit_b"}.get(width)


def model_of_weights(weights: Mapping[str, torch.Tensor]) -> str | None:
    """Returns the model of SAM 2.1 whose image encoder has as many channels and blocks, or None."""
    first = weights.get(SAM2.width_of)
    blocks = {name.split(".")[3] for name in weights if name.startswith("image_encoder.trunk.blocks.")}
    sizes = {(96, 12): "hiera_tiny", (96, 16): "hiera_small", (112, 24): "hiera_base_plus", (144, 48): "hiera_large"}
    return None if first is None else sizes.get((len(first), len(blocks)))
