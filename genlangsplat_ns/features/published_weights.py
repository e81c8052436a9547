"""The published weights files of SAM, SAM 2.1 and CLIP: what is on this machine, and how to fetch the others."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.open_clip_encoder import find_weights
from genlangsplat_ns.features.sam_weights import find_checkpoint, official_checkpoint, release_of, weights_folder
from genlangsplat_ns.features.settings import OpenClipSettings, Sam2Settings, SamSettings
from genlangsplat_ns.utils.downloads import download, partial_path
from genlangsplat_ns.utils.files import atomic_path, file_sha256

MIRROR_VARIABLE = "GENLANGSPLAT_WEIGHTS_MIRROR"
"""Environment variable with a folder from which weights are copied instead of downloaded."""

WeightsName = Literal["sam", "sam2", "openclip"]

CLIP_REPOSITORY = "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
"""Repository of the default weights of `OpenClipSettings` on the Hugging Face hub."""

CLIP_REVISION = "7288da5a0d6f0b51c4a2b27c624837a9236d0112"

CLIP_FILES = {
    "open_clip_model.safetensors": "3f25d29d3cc74e1d25d47e0593b4dd0864ced1e9b4d8e486a247ca4502f227f1",
    "open_clip_pytorch_model.bin": "1f16b1274ca25493b1f36225efe81d05f66a3f33c487acd1a07c5ba87920de6f",
}
"""The files of that repository with CLIP's weights, and their sha256; the first one is fetched."""

CLIP_GIGABYTES = 0.60


@dataclass(frozen=True)
class PublishedWeights:
    """A published weights file."""

    name: str
    """The model, for people."""
    url: str
    sha256: str
    gigabytes: float
    target: Path
    """Where `fetch_weights` puts the file, which is where the encoder or the mask generator looks for it."""
    found: Path | None
    """The file that the encoder or the mask generator takes on this machine."""
    found_sha256: str
    """The published hash of that file."""
    hub_folder: Path | None = None
    """The folder of the repository in the cache of the Hugging Face hub, if the file belongs there."""

    @property
    def is_whole(self) -> bool:
        """Whether the file on this machine has its published hash; reads all of it."""
        return self.found is not None and file_sha256(self.found) == self.found_sha256

    @property
    def received(self) -> int:
        """Bytes of an interrupted download."""
        partial = partial_path(self.target, self.sha256)
        return partial.stat().st_size if partial.is_file() else 0


def published_weights(name: WeightsName, model: str | None = None) -> PublishedWeights:
    """Looks up published weights on this machine; downloads nothing.

    Args:
        name: What the weights are for.
        model: Architecture of sam or sam2; None for the default one.

    Raises:
        GenLangSplatError: There are no published weights of this model.
    """
    if name == "openclip":
        return _clip_weights()
    default = Sam2Settings() if name == "sam2" else SamSettings()
    return _sam_weights(replace(default, model=model or default.model))


def _sam_weights(settings: SamSettings) -> PublishedWeights:
    official, release = official_checkpoint(settings), release_of(settings)
    if official is None:
        raise GenLangSplatError(
            f"There are no published weights of {release.name} {settings.model!r}. Choose one of "
            f"{', '.join(release.checkpoints)}."
        )
    return PublishedWeights(
        f"{release.name} {settings.model}",
        official.url,
        official.sha256,
        official.gigabytes,
        weights_folder() / official.file_name,
        find_checkpoint(settings),
        official.sha256,
    )


def _clip_weights() -> PublishedWeights:
    settings = OpenClipSettings()
    name, sha256 = next(iter(CLIP_FILES.items()))
    # The layout of the hub's cache: a reference names the revision whose files programs take.
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=CLIP_REPOSITORY, repo_type="model")
    reference = folder / "refs" / "main"
    revision = reference.read_text(encoding="utf-8").strip() if reference.is_file() else CLIP_REVISION
    found = find_weights(settings)
    return PublishedWeights(
        f"CLIP {settings.model} {settings.weights}",
        f"{constants.ENDPOINT}/{CLIP_REPOSITORY}/resolve/{CLIP_REVISION}/{name}",
        sha256,
        CLIP_GIGABYTES,
        folder / "snapshots" / revision / name,
        found,
        sha256 if found is None else CLIP_FILES.get(found.name, sha256),
        folder,
    )


def weights_mirror(folder: Path | None = None) -> Path | None:
    """Returns the folder that replaces the network: the given one, or that of the environment variable.

    Raises:
        GenLangSplatError: It is not a folder.
    """
    mirror = folder or (Path(os.environ[MIRROR_VARIABLE]) if os.environ.get(MIRROR_VARIABLE) else None)
    if mirror is not None and not mirror.is_dir():
        raise GenLangSplatError(
            f"The mirror {mirror} is not a folder. Give a folder with the files by --mirror or {MIRROR_VARIABLE}."
        )
    return mirror


def source_of(weights: PublishedWeights, mirror: Path | None) -> str:
    """Returns the address from which a file would come.

    Raises:
        GenLangSplatError: A mirror is given, but it has no file of this name.
    """
    if mirror is None:
        return weights.url
    file = mirror / weights.target.name
    if not file.is_file():
        raise GenLangSplatError(
            f"The mirror {mirror} has no {file.name}. Put the file from {weights.url} there, or omit the mirror "
            f"(--mirror, {MIRROR_VARIABLE})."
        )
    return file.absolute().as_uri()


def fetch_weights(weights: PublishedWeights, mirror: Path | None = None) -> Path:
    """Puts weights where their encoder or mask generator looks for them, unless they are there already.

    Args:
        weights: The file to fetch; an interrupted download continues.
        mirror: A folder that has the file under its published name; None downloads it.

    Raises:
        GenLangSplatError: The file is not to be had, does not have its published hash, or cannot be written.
    """
    if weights.found is not None and weights.is_whole:
        return weights.found
    path = download(source_of(weights, mirror), weights.target, weights.sha256)
    if weights.hub_folder is not None:
        _show_to_hub(weights.hub_folder, path)
    return path


def _show_to_hub(folder: Path, file: Path) -> None:
    """Makes the hub's cache take a file of a snapshot."""
    revision = file.parent.name
    # The cache may remember that this revision had no such file.
    (folder / ".no_exist" / revision / file.name).unlink(missing_ok=True)
    if not (folder / "refs" / "main").is_file():
        with atomic_path(folder / "refs" / "main") as path:
            path.write_text(revision, encoding="utf-8")
