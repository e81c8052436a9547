"""Finds autoencoders by name: those packaged with the project, and those the user exported to the cache folder."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import platformdirs

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder, read_autoencoder, read_identity, save_autoencoder
from genlangsplat_ns.language.projection import projection_autoencoder

PACKAGED: dict[str, str] = {"conse": "conse-16.safetensors"}
"""Names of the packaged autoencoders, and their files in `genlangsplat_ns/assets`."""

AUTO = "auto"
"""Chooses the autoencoder that fits the encoder."""

PROJECTION = "projection"
"""Name of the fixed random projection, which has no file and fits every encoder."""


def load_autoencoder(path_or_name: str | Path, *, encoder_identity: str | None = None) -> Autoencoder:
    """Loads an autoencoder. The result is float32, in evaluation mode and without gradients.

    Args:
        path_or_name: A file; the name of a packaged or exported autoencoder; or `auto`, which takes the first named
            autoencoder that fits `encoder_identity`: packaged ones first, then the latest exported one.
        encoder_identity: Identity of the required encoder; None accepts any.

    Raises:
        GenLangSplatError: It does not exist, is damaged or no autoencoder, or was trained for another encoder.
    """
    path = _path_for_encoder(encoder_identity) if path_or_name == AUTO else find_autoencoder(path_or_name)
    autoencoder = read_autoencoder(path)
    if encoder_identity is not None and autoencoder.identity.encoder != encoder_identity:
        raise GenLangSplatError(
            f"The autoencoder {path} was trained on embeddings of {autoencoder.identity.encoder!r}, but the scene uses "
            f"{encoder_identity!r}. Choose the autoencoder that belongs to the encoder, or train one with "
            "`python -m pretrain`."
        )
    return autoencoder


def scene_autoencoder(path_or_name: str, encoder: str, embedding_dim: int) -> Autoencoder:
    """Loads the autoencoder of a scene: a file, a named autoencoder, or the projection.

    Args:
        path_or_name: As in `load_autoencoder`; or `projection`, which `auto` also takes if no named autoencoder fits.
        encoder: Identity of the scene's encoder.
        embedding_dim: Width E of its embeddings.

    Raises:
        GenLangSplatError: The autoencoder does not exist, is damaged, or was trained for another encoder.
    """
    if path_or_name == PROJECTION or (path_or_name == AUTO and _first_for_encoder(encoder) is None):
        return projection_autoencoder(encoder, embedding_dim)
    return load_autoencoder(path_or_name, encoder_identity=encoder)


def find_autoencoder(path_or_name: str | Path) -> Path:
    """Returns the file of an autoencoder, or raises GenLangSplatError if the argument is neither a name nor a file."""
    named = named_autoencoders()
    path = named.get(str(path_or_name), Path(path_or_name))
    if not path.is_file():
        raise GenLangSplatError(
            f"There is no autoencoder {path_or_name}. Give a .safetensors file, one of the names "
            f"{', '.join(named)}, or {AUTO}; `python -m pretrain export` gives a file a name. Training also accepts "
            f"{PROJECTION}."
        )
    return path


def named_autoencoders() -> dict[str, Path]:
    """Lists all named autoencoders and their files: the packaged ones, then the exported ones, the latest first."""
    packaged = {
        name: Path(str(resources.files("genlangsplat_ns") / "assets" / file)) for name, file in PACKAGED.items()
    }
    files = cache_folder().glob("*.safetensors")
    exported = sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return packaged | {path.stem: path for path in exported if path.stem not in packaged}


def cache_folder() -> Path:
    """Returns the folder of exported autoencoders."""
    return Path(platformdirs.user_cache_dir("genlangsplat-ns")) / "autoencoders"


def export_autoencoder(file: Path, name: str) -> Path:
    """Copies an autoencoder file into the cache folder, where every run of this user finds it by name.

    An autoencoder exported before under the name is replaced. Returns the file in the cache folder.

    Raises:
        GenLangSplatError: The name is reserved or invalid, or the file is no autoencoder.
    """
    if name in PACKAGED or name in (AUTO, PROJECTION):
        raise GenLangSplatError(f"The name {name} is reserved by the package. Choose another with --name.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise GenLangSplatError(
            f"{name!r} is not a valid name: use letters, digits, dots, hyphens and underscores with --name."
        )
    target = cache_folder() / f"{name}.safetensors"
    save_autoencoder(target, read_autoencoder(file))
    return target


def _path_for_encoder(encoder_identity: str | None) -> Path:
    if encoder_identity is None:
        raise GenLangSplatError(f"The autoencoder {AUTO!r} depends on the encoder, but no encoder was given. Give one.")
    path = _first_for_encoder(encoder_identity)
    if path is None:
        listing = "; ".join(
            f"{name} for {read_identity(path).encoder!r}" for name, path in named_autoencoders().items()
        )
        raise GenLangSplatError(
            f"No named autoencoder fits the encoder {encoder_identity!r}; found: {listing}. Train one with "
            "`python -m pretrain train` and give its file, or name it with `python -m pretrain export`."
        )
    return path


def _first_for_encoder(encoder_identity: str) -> Path | None:
    """Returns the first named autoencoder of an encoder. Later files are not read, so they may be damaged."""
    paths = named_autoencoders().values()
    return next((path for path in paths if read_identity(path).encoder == encoder_identity), None)
