"""The interface of image-text encoders, and the functions that load them by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Embeds image regions and texts as unit vectors that are compared by cosine similarity."""

    name: str
    """Name by which it is loaded, such as `conse`."""
    identity: str
    """Name, models, settings and version, stored with features and artifacts. It determines the embeddings."""
    embedding_dim: int

    def encode_regions(
        self, image: UInt8[Tensor, "height width 3"], masks: ViewMasks
    ) -> Float[Tensor, "num_regions embedding_dim"]:
        """Embeds the regions of an RGB view, each with at least one visible pixel, as one unit vector each."""

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """Embeds texts as unit vectors, one row per text. Raises GenLangSplatError if a text is blank."""


encoder_makers: dict[str, Callable[[str, OpenClipSettings, bool], ImageTextEncoder]] = {
    "conse": lambda device, _settings, _download: ConSEEncoder(device),
    "openclip": lambda device, settings, download: OpenClipEncoder(settings, device, download),
}
"""Makes an encoder by its name, for a device, settings, and whether missing weights may be downloaded."""

ENCODERS: tuple[str, ...] = tuple(encoder_makers)
"""Names of the encoders."""

_LOADING = Lock()
"""Held while an encoder is loaded, because the viewer loads it in another thread."""

loaded_encoders: dict[tuple[object, ...], ImageTextEncoder] = {}
"""The encoders of this process, by name, device and weights."""


def load_encoder(
    name: str, device: str = "cpu", open_clip: OpenClipSettings | None = None, download: bool = False
) -> ImageTextEncoder:
    """Loads an encoder of `ENCODERS`, its image model on `device`. `open_clip` defaults to LangSplat's settings.

    Later calls return the same encoder until `release_encoders` is called.

    Raises:
        GenLangSplatError: If the encoder is unknown, or its packages or weights are missing.
    """
    _check_name(name)
    open_clip = open_clip or OpenClipSettings()
    key = (name, device, open_clip if name == "openclip" else None)
    with _LOADING:
        if key not in loaded_encoders:
            loaded_encoders[key] = encoder_makers[name](device, open_clip, download)
        return loaded_encoders[key]


def release_encoders() -> None:
    """Releases the loaded encoders, so that their memory can be freed."""
    with _LOADING:
        loaded_encoders.clear()


def encoder_identity(name: str, open_clip: OpenClipSettings | None = None) -> str:
    """Returns the identity of an encoder without loading weights.

    Raises:
        GenLangSplatError: If the encoder is unknown, or the weights file in the settings does not exist.
    """
    _check_name(name)
    return openclip_identity(open_clip or OpenClipSettings()) if name == "openclip" else CONSE_IDENTITY


def encoder_embedding_dim(name: str, open_clip: OpenClipSettings | None = None) -> int:
    """Returns the embedding width of an encoder without loading weights.

    Raises:
        GenLangSplatError: If the encoder or its model is unknown.
    """
    _check_name(name)
    return openclip_embedding_dim(open_clip or OpenClipSettings()) if name == "openclip" else ConSEEncoder.embedding_dim


def _check_name(name: str) -> None:
    if name not in ENCODERS:
        raise GenLangSplatError(f"There is no encoder {name!r}. Choose one of {', '.join(ENCODERS)}.")
