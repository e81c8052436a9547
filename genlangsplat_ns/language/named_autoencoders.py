"""Autoencoders by name: those that come with the package, and those a user has exported to the cache folder."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import platformdirs

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder, read_autoencoder, read_identity, save_autoencoder
from genlangsplat_ns.language.projection import projection_autoencoder

PACKAGED: dict[str, str] = {"conse": "conse-16.safetensors"}
"""Names of the autoencoders that come with the package, and their files in `genlangsplat_ns/assets`."""

AUTO = "auto"
"""The name that leaves the choice to the encoder."""

PROJECTION = "projection"
"""The name of the fixed random projection, which is no file and fits every encoder."""


def load_autoencoder(path_or_name: str | Path, *, encoder_identity: str | None = None) -> Autoencoder:
    """Loads an artifact, in float32, in evaluation mode and without gradients.

    Args:
        path_or_name: A file; or a name, of the package's or exported before; or `auto`, which takes the named one that
            fits `encoder_identity`, the package's own first, then the one exported last.
        encoder_identity: Identity of the encoder it is to serve; None to accept any.

    Raises:
        GenLangSplatError: If there is none, it is damaged or not an autoencoder, or was trained for another encoder.
    """
    path = _require_fitting(encoder_identity) if path_or_name == AUTO else find_autoencoder(path_or_name)
    autoencoder = read_autoencoder(path)
    if encoder_identity is not None and autoencoder.identity.encoder != encoder_identity:
        raise GenLangSplatError(
            f"The autoencoder {path} was trained on embeddings of {autoencoder.identity.encoder!r}, the scene uses "
            f"{encoder_identity!r}. Choose the autoencoder that belongs to the encoder, or train one with "
            "`python -m pretrain`."
        )
    return autoencoder


def scene_autoencoder(path_or_name: str, encoder: str, embedding_dim: int) -> Autoencoder:
    """The autoencoder of a scene: a file, a named one, or the projection.

    Args:
        path_or_name: As in `load_autoencoder`; or `projection`, which `auto` also takes when no named one fits.
        encoder: Identity of the scene's encoder.
        embedding_dim: Width E of its embeddings.

    Raises:
        GenLangSplatError: There is no such autoencoder, it is damaged, or it was trained for another encoder.
    """
    if path_or_name == PROJECTION or (path_or_name == AUTO and _fitting(encoder) is None):
        return projection_autoencoder(encoder, embedding_dim)
    return load_autoencoder(path_or_name, encoder_identity=encoder)


def find_autoencoder(path_or_name: str | Path) -> Path:
    """Gives the file of an autoencoder.

    Raises:
        GenLangSplatError: If it is neither a name nor a file.
    """
    named = named_autoencoders()
    path = named.get(str(path_or_name), Path(path_or_name))
    if not path.is_file():
        raise GenLangSplatError(
            f"There is no autoencoder {path_or_name}. Give a .safetensors file, one of the names "
            f"{', '.join(named)}, or {AUTO}; `python -m pretrain export` gives a file a name. Training also takes "
            f"{PROJECTION}."
        )
    return path


def named_autoencoders() -> dict[str, Path]:
    """All named autoencoders and their files: the package's own, then those exported, the last one first."""
    packaged = {
        name: Path(str(resources.files("genlangsplat_ns") / "assets" / file)) for name, file in PACKAGED.items()
    }
    files = cache_folder().glob("*.safetensors")
    exported = sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return packaged | {path.stem: path for path in exported if path.stem not in packaged}


def cache_folder() -> Path:
    """Where exported autoencoders lie."""
    return Path(platformdirs.user_cache_dir("genlangsplat-ns")) / "autoencoders"


def export_autoencoder(file: Path, name: str) -> Path:
    """Gives an autoencoder a name, under which every run of this user finds it.

    Args:
        file: The artifact.
        name: Letters, digits, dots, hyphens and underscores; an autoencoder exported under it before is replaced.

    Returns:
        The file in the cache folder.

    Raises:
        GenLangSplatError: If the name is taken by the package or unusable, or the file is no autoencoder.
    """
    if name in PACKAGED or name in (AUTO, PROJECTION):
        raise GenLangSplatError(f"The name {name} belongs to the package. Choose another with --name.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise GenLangSplatError(
            f"{name!r} cannot be a name: give letters, digits, dots, hyphens and underscores with --name."
        )
    target = cache_folder() / f"{name}.safetensors"
    save_autoencoder(target, read_autoencoder(file))
    return target


def _require_fitting(encoder_identity: str | None) -> Path:
    if encoder_identity is None:
        raise GenLangSplatError(f"The autoencoder {AUTO!r} is chosen by the encoder, but no encoder was named.")
    path = _fitting(encoder_identity)
    if path is None:
        listing = "; ".join(
            f"{name} for {read_identity(path).encoder!r}" for name, path in named_autoencoders().items()
        )
        raise GenLangSplatError(
            f"No named autoencoder fits the encoder {encoder_identity!r}; there is: {listing}. Train one with "
            "`python -m pretrain train` and point to its file, or give it a name with `python -m pretrain export`."
        )
    return path


def _fitting(encoder_identity: str) -> Path | None:
    """The first named autoencoder of an encoder. Those behind it are not looked at, and may be damaged."""
    paths = named_autoencoders().values()
    return next((path for path in paths if read_identity(path).encoder == encoder_identity), None)
