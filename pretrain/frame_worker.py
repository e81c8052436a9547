"""Extracts the embeddings of one frame, in any process and on any machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder, load_encoder
from genlangsplat_ns.features.extract import view_features
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.masks import MaskGenerator, load_mask_generator
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.levels import LEVELS
from pretrain.shards import ShardIdentity
from pretrain.sources import Frame, FrameSource
from pretrain.stored import row_levels


@dataclass(frozen=True)
class FrameModels:
    """Mask generator and encoder of an extraction. It is sent to other machines, which load the models."""

    identity: ShardIdentity
    load_masks: Callable[[], MaskGenerator]
    load_encoder: Callable[[], ImageTextEncoder]

    @classmethod
    def from_settings(cls, settings: FeatureSettings, device: str | None = None) -> FrameModels:
        """Resolves the settings of masks and encoder, including `auto`, so that all workers use the same models.

        Without a device, the models are on CUDA on workers that have it.

        Raises:
            GenLangSplatError: If the encoder is unknown, or a weights file in the settings does not exist.
        """
        extractor = FeatureExtractor(settings, device or _default_device())
        return cls(
            ShardIdentity.from_store(extractor.store_identity),
            partial(_load_masks, extractor.mask_name, settings, device),
            partial(_load_encoder, extractor.encoder_name, settings, device),
        )


@dataclass(frozen=True)
class FrameResult:
    """Embeddings and levels of a frame's regions, or the reason of a failure."""

    frame: Frame
    embeddings: Float[Tensor, "rows embedding_dim"]
    levels: Integer[Tensor, " rows"]
    failure: str = ""


class FrameWorker:
    """Extracts embeddings of frames with models that are loaded once.

    Raises:
        GenLangSplatError: If a model cannot be loaded, or the encoder is not the expected one.
    """

    def __init__(self, source: FrameSource, models: FrameModels) -> None:
        self._source = source
        self._masks, self._encoder = models.load_masks(), models.load_encoder()
        self._levels = [LEVELS.index(name) for name in models.identity.levels]
        found = (self._encoder.identity, self._encoder.embedding_dim)
        expected = (models.identity.encoder, models.identity.embedding_dim)
        if found != expected:
            raise GenLangSplatError(
                f"The encoder is {found[0]} with {found[1]} dimensions, expected {expected[0]} with {expected[1]}. "
                "Install the same packages and weights on all machines."
            )

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"] | str:
        """Returns the pixels of a frame, or the reason why they cannot be read."""
        try:
            return self._source.load(frame)
        except GenLangSplatError as error:
            return str(error)

    def embed(self, frame: Frame, image: UInt8[Tensor, "height width 3"] | str) -> FrameResult:
        """Extracts the regions of a frame loaded by `load`; errors of the models give a failed result."""
        nothing = torch.zeros(0, self._encoder.embedding_dim), torch.zeros(0, dtype=torch.uint8)
        if isinstance(image, str):
            return FrameResult(frame, *nothing, failure=image)
        try:
            features = view_features(image, self._masks, self._encoder, self._levels)
        except (GenLangSplatError, RuntimeError, ValueError, IndexError) as error:
            return FrameResult(frame, *nothing, failure=f"{type(error).__name__}: {error}")
        embeddings = features.embeddings.cpu()
        return FrameResult(frame, embeddings, row_levels(features.regions, len(embeddings)))


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load_masks(name: str, settings: FeatureSettings, device: str | None) -> MaskGenerator:
    return load_mask_generator(name, settings.sam, device or _default_device(), settings.download_weights)


def _load_encoder(name: str, settings: FeatureSettings, device: str | None) -> ImageTextEncoder:
    return load_encoder(name, device or _default_device(), settings.open_clip, settings.download_weights)
