"""Reads files of network weights in any common format without running code from them, and recognizes their model."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.torch_files import (
    ERRORS_OF_ARCHIVES,
    ERRORS_OF_TORCH,
    UnusableFileError,
    is_archive,
    load_torch_file,
)
from genlangsplat_ns.utils.wrong_files import wrong_content

NESTED = ("state_dict", "model_state_dict", "model")
"""Entries of training checkpoints that hold the weights."""

MAX_CODE_BYTES = 1 << 26
"""The source of a TorchScript program unpacks to at most this."""

PREFIXES = ("module.", "_orig_mod.")
"""Prefixes of all names in checkpoints of distributed or compiled training."""

KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SAM 2", ("image_encoder.trunk.pos_embed",)),
    ("SAM-HQ", ("mask_decoder.hf_token.weight",)),
    ("MobileSAM", ("image_encoder.patch_embed.seq.0.c.weight",)),
    ("SAM of Hugging Face transformers", ("shared_image_embedding.positional_embedding",)),
    ("SAM", ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",)),
    ("CLIP or SigLIP of Hugging Face transformers", ("text_model.embeddings.token_embedding.weight",)),
    ("CLIP", ("token_embedding.weight", "visual.conv1.weight")),
    ("CLIP", ("text.token_embedding.weight",)),
    ("LangSplat's autoencoder", ("encoder.0.weight", "decoder.0.weight")),
)
"""Models by names of weights that only they have; the first one with all of its names is the model."""


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file."""

    tensors: dict[str, Tensor]
    """The weights by name, without prefixes of training."""
    is_plain: bool
    """Whether other programs read it under its suffix: named tensors, at most in an entry `state_dict`."""
    code: str = ""
    """The source of a TorchScript archive."""

    @property
    def kind(self) -> str | None:
        """The model of the weights, a name of `KINDS`; None if it is unknown."""
        return model_kind(self.tensors)


def model_kind(names: Collection[str]) -> str | None:
    """Returns the model with these names of weights, a name of `KINDS`; None if it is unknown."""
    return next((kind for kind, known in KINDS if set(known) <= set(names)), None)


def read_weights(path: Path) -> WeightsFile:
    """Reads safetensors, PyTorch files and TorchScript archives, whatever the suffix, into memory or mapped.

    Raises:
        GenLangSplatError: The file is a stand-in (a Git LFS pointer, a web page), is damaged, has no named tensors, or
            could run code.
    """
    wrong = wrong_content(path)
    if wrong is not None:
        raise GenLangSplatError(f"{path} is damaged or no weights file: it is {wrong}. Give another file.")
    if _is_safetensors(path):
        return WeightsFile(_without_prefix(_read_safetensors(path)), is_plain=path.suffix == ".safetensors")
    code = _script_code(path)
    if code is not None:
        return _read_script(path, code)
    try:
        content = load_torch_file(path, mmap=True)
    except UnusableFileError as error:
        raise _damaged(path, error) from error
    return _from_content(path, content)


def _damaged(path: Path, error: Exception) -> GenLangSplatError:
    first = str(error).split("\n")[0][:200].replace(f"{path} is ", "")
    return GenLangSplatError(
        f"{path} ({path.stat().st_size:,} bytes) is truncated, damaged or not a weights file "
        f"({type(error).__name__}: {first}). Download it again, or give another file."
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _is_safetensors(path: Path) -> bool:
    """Whether a file has the header of safetensors: its length in 8 bytes, then JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" or (path.suffix == ".safetensors" and not is_archive(path))


def _script_code(path: Path) -> str | None:
    """Returns the source of a TorchScript archive; None if the file is not one."""
    if not is_archive(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if not any(name.endswith("/constants.pkl") for name in archive.namelist()):
                return None
            # Only the source of a program is compressed.
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size + MAX_CODE_BYTES:
                raise zipfile.BadZipFile(f"it unpacks to {unpacked:,} bytes")
            sources = [archive.read(entry) for entry in archive.infolist() if entry.filename.endswith(".py")]
    except ERRORS_OF_ARCHIVES as error:
        raise _damaged(path, error) from error
    return b"\n".join(sources).decode("utf-8", errors="replace")


def _read_script(path: Path, code: str) -> WeightsFile:
    # Loading a TorchScript archive compiles its code, but runs only these methods.
    if "__setstate__" in code or "torch.classes" in code:
        raise GenLangSplatError(
            f"{path} is a TorchScript program that runs code when it is loaded, which is refused. It may be damaged or "
            "harmful; give a file that only has weights."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        try:
            state = dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        except ERRORS_OF_TORCH as error:
            raise _damaged(path, error) from error
    return WeightsFile(_without_prefix(state), is_plain=False, code=code)


def _from_content(path: Path, content: Any) -> WeightsFile:
    entries = content if isinstance(content, Mapping) else {}
    nested = next((name for name in NESTED if _is_state(entries.get(name))), None)
    state = content if nested is None else entries[nested]
    if not _is_state(state):
        raise GenLangSplatError(
            f"{path} is damaged or no weights file: it contains a {type(content).__name__}, expected the named weights "
            "of a model. Give another file."
        )
    tensors = _without_prefix(state)
    return WeightsFile(tensors, is_plain=nested in (None, "state_dict") and tensors.keys() == state.keys())


def _is_state(content: Any) -> bool:
    """Whether this is a dictionary of named tensors."""
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and isinstance(item, Tensor) for name, item in content.items())
    )


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)
