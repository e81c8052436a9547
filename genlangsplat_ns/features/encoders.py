"""Encoders that put image regions and texts into one space, and the registry that names them."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.conse import CONSE_IDENTITY, ConSEEncoder
from genlangsplat_ns.features.open_clip_encoder import OpenClipEncoder, openclip_embedding_dim, openclip_identity
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.settings import OpenClipSettings


@runtime_checkable
class ImageTextEncoder(Protocol):
    """Embeds image regions and texts as unit vectors that can be compared by their cosine.

    Attributes:
        name: The registry name, such as `conse`.
        identity: Name, models, settings and version. Two encoders with the same identity give the same embeddings; it
            goes into the manifests of feature stores and into autoencoder artifacts.
        embedding_dim: Width E of the embeddings.
    """

    name: str
    identity: str
    embedding_dim: int

    def encode_regions(
        self, image: UInt8[Tensor, "height width 3"], masks: ViewMasks
    ) -> Float[Tensor, "num_regions embedding_dim"]:
        """Embeds the regions of one view.

        Args:
            image: The view, RGB.
            masks: Its regions, each with a pixel that no other one hides.

        Returns:
            One unit row per region, in their order.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """Embeds texts, one unit row each.

        Raises:
            GenLangSplatError: If a text is empty or blank.
        """
        ...


ENCODERS: tuple[str, ...] = ("conse", "openclip")
"""Names of the encoders."""

_LOADING = Lock()
"""Held while an encoder is loaded: the viewer's panel loads it in a thread of its own."""

_loaded: dict[tuple[object, ...], ImageTextEncoder] = {}


def load_encoder(
    name: str, device: str = "cpu", open_clip: OpenClipSettings | None = None, download: bool = False
) -> ImageTextEncoder:
    """Loads an encoder; the same one is handed out again within the process, until `release_encoders`.

    Args:
        name: A name from `ENCODERS`.
        device: Where its image model runs.
        open_clip: Settings of openclip; None for LangSplat's.
        download: Whether missing weights may be fetched.

    Raises:
        GenLangSplatError: If the encoder is unknown, or its packages or weights are not there.
    """
    _check_name(name)
    open_clip = open_clip or OpenClipSettings()
    key = (name, device, open_clip if name == "openclip" else None)
    with _LOADING:
        if key not in _loaded:
            _loaded[key] = OpenClipEncoder(open_clip, device, download) if name == "openclip" else ConSEEncoder(device)
        return _loaded[key]


def release_encoders() -> None:
    """Forgets the loaded encoders, so that their memory can be used for something else."""
    with _LOADING:
        _loaded.clear()


def encoder_identity(name: str, open_clip: OpenClipSettings | None = None) -> str:
    """Gives the identity of an encoder without loading any weights.

    Raises:
        GenLangSplatError: If the encoder is unknown, or its weights are named by a file that is not there.
    """
    _check_name(name)
    return openclip_identity(open_clip or OpenClipSettings()) if name == "openclip" else CONSE_IDENTITY


def encoder_embedding_dim(name: str, open_clip: OpenClipSettings | None = None) -> int:
    """Gives the width of an encoder's embeddings without loading any weights.

    Raises:
        GenLangSplatError: If the encoder or its model is unknown.
    """
    _check_name(name)
    return openclip_embedding_dim(open_clip or OpenClipSettings()) if name == "openclip" else ConSEEncoder.embedding_dim


def _check_name(name: str) -> None:
    if name not in ENCODERS:
        raise GenLangSplatError(f"There is no encoder {name!r}; choose one of {', '.join(ENCODERS)}.")


__all__ = [
    "ENCODERS",
    "ConSEEncoder",
    "ImageTextEncoder",
    "encoder_embedding_dim",
    "encoder_identity",
    "load_encoder",
    "release_encoders",
]
