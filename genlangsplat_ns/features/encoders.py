"""Encoders that put image regions and texts into one space, and the registry that names them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.conse import CONSE_IDENTITY, ConSEEncoder


@runtime_checkable
class ImageTextEncoder(Protocol):
    """Embeds image regions and texts as unit vectors that can be compared by their cosine.

    Attributes:
        name: The registry name, such as `conse`.
        identity: Name, models, settings and version. Two encoders with the same identity give the same embeddings; it
            goes into the manifests of feature stores and into autoencoder artefacts.
        embedding_dim: Width E of the embeddings.
    """

    name: str
    identity: str
    embedding_dim: int

    def encode_regions(
        self, image: UInt8[Tensor, "height width 3"], regions: Int32[Tensor, "levels height width"]
    ) -> Float[Tensor, "num_regions embedding_dim"]:
        """Embeds the regions of one view.

        Args:
            image: The view, RGB.
            regions: For each level and pixel the row of the region in the result, -1 where there is none. Rows count
                over all levels of the view.

        Returns:
            One unit row per region, `regions.max() + 1` of them; a row that no pixel names is zero.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """Embeds texts, one unit row each.

        Raises:
            GenLangSplatError: If a text is empty or blank.
        """
        ...


ENCODERS: tuple[str, ...] = ("conse",)
"""Names of the encoders of this version."""

_LOADING = Lock()
"""Held while an encoder is loaded: the viewer's panel loads it in a thread of its own."""


def load_encoder(name: str, device: str = "cpu") -> ImageTextEncoder:
    """Loads an encoder; the same one is handed out again within the process.

    Args:
        name: A name from `ENCODERS`.
        device: Where its image model runs.

    Raises:
        GenLangSplatError: If the encoder is unknown, not available, or its packages are not installed.
    """
    _check_name(name)
    with _LOADING:
        return _load_conse(device)


def encoder_identity(name: str) -> str:
    """Gives the identity of an encoder without loading any weights.

    Raises:
        GenLangSplatError: If the encoder is unknown or not available.
    """
    _check_name(name)
    return CONSE_IDENTITY


def encoder_embedding_dim(name: str) -> int:
    """Gives the width of an encoder's embeddings without loading any weights.

    Raises:
        GenLangSplatError: If the encoder is unknown or not available.
    """
    _check_name(name)
    return ConSEEncoder.embedding_dim


@cache
def _load_conse(device: str) -> ConSEEncoder:
    return ConSEEncoder(device=device)


def _check_name(name: str) -> None:
    if name == "openclip":
        raise GenLangSplatError(
            "The encoder 'openclip' is not available in this version. Use 'conse', the embedded encoder: it needs no "
            'download, only `pip install "genlangsplat-ns[embedded]"`.'
        )
    if name not in ENCODERS:
        raise GenLangSplatError(f"There is no encoder {name!r}; this version knows {', '.join(ENCODERS)}.")


__all__ = ["ENCODERS", "ConSEEncoder", "ImageTextEncoder", "encoder_embedding_dim", "encoder_identity", "load_encoder"]
