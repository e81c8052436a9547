"""Extracts the embeddings of frames, in any process and on any machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int8, Int32, Integer, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder, load_encoder
from genlangsplat_ns.features.extract import view_features
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.masks import MaskGenerator, load_mask_generator
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.features.store import StoreIdentity
from genlangsplat_ns.levels import LEVELS
from pretrain.sources import Frame, FrameSource


@dataclass(frozen=True)
class FrameModels:
    """Mask generator and encoder of an extraction. It is sent to other machines, which load the models."""

    identity: StoreIdentity
    load_masks: Callable[[], MaskGenerator]
    load_encoder: Callable[[], ImageTextEncoder]

    @classmethod
    def from_settings(cls, settings: FeatureSettings, device: str | None = None) -> FrameModels:
        """Resolves the settings of masks and encoder, including `auto`, so that all workers use the same models.

        Without a device, the models are on CUDA on workers that have it.

        Raises:
            GenLangSplatError: If the encoder is unknown, or a weights file in the settings does not exist.
        """
        extractor = FeatureExtractor(settings, _device(device))
        masks, encoder = extractor.mask_name, extractor.encoder_name
        return cls(
            extractor.store_identity,
            lambda: load_mask_generator(
                masks, settings.sam_settings(masks), _device(device), settings.download_weights
            ),
            lambda: load_encoder(encoder, _device(device), settings.open_clip, settings.download_weights),
        )


@dataclass(frozen=True)
class FrameResult:
    """Embeddings and levels of a frame's regions, or the reason of a failure."""

    frame: Frame
    embeddings: Float[Tensor, "rows embedding_dim"]
    levels: Integer[Tensor, " rows"]
    failure: str = ""

    @classmethod
    def failed(cls, frame: Frame, reason: str) -> FrameResult:
        """Returns the result of a frame that failed."""
        return cls(frame, torch.zeros(0, 1), torch.zeros(0, dtype=torch.uint8), reason)


class FrameWorker:
    """Extracts embeddings of frames; raises GenLangSplatError if a model cannot be loaded or is another one."""

    def __init__(self, source: FrameSource, models: FrameModels) -> None:
        # The models are loaded with the first frame, because Ray reports errors of constructors as dead actors.
        self._source, self._models = source, models

    @cached_property
    def _loaded(self) -> tuple[MaskGenerator, ImageTextEncoder]:
        masks, encoder, identity = self._models.load_masks(), self._models.load_encoder(), self._models.identity
        found = (encoder.identity, encoder.embedding_dim)
        expected = (identity.encoder_identity, identity.embedding_dim)
        if found != expected:
            raise GenLangSplatError(
                f"The encoder is {found[0]} with {found[1]} dimensions, expected {expected[0]} with {expected[1]}. "
                "Install the same packages and weights on all machines."
            )
        return masks, encoder

    def load(self, frame: Frame) -> UInt8[Tensor, "height width 3"] | str:
        """Returns the pixels of a frame, or the reason why they cannot be read."""
        try:
            return self._source.load(frame)
        except GenLangSplatError as error:
            return str(error)

    def embed(self, frame: Frame, image: UInt8[Tensor, "height width 3"] | str) -> FrameResult:
        """Extracts the regions of a frame loaded by `load`; errors of the models give a failed result."""
        masks, encoder = self._loaded
        if isinstance(image, str):
            return FrameResult.failed(frame, image)
        levels = [LEVELS.index(name) for name in self._models.identity.levels]
        try:
            features = view_features(image, masks, encoder, levels)
        except (GenLangSplatError, RuntimeError, ValueError, IndexError) as error:
            return FrameResult.failed(frame, f"{type(error).__name__}: {error}")
        embeddings = features.embeddings.cpu()
        return FrameResult(frame, embeddings, row_levels(features.regions, len(embeddings)))

    def process(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Loads and embeds some frames; see `embed`."""
        return [self.embed(frame, self.load(frame)) for frame in frames]


def row_levels(regions: Int32[Tensor, "levels height width"], num_rows: int) -> Int8[Tensor, " rows"]:
    """Returns the finest level on which each row has a pixel, -1 for rows without pixels."""
    levels = torch.full((num_rows + 1,), -1, dtype=torch.int8)
    for level in reversed(range(len(regions))):
        # -1 (no region) selects the additional last element.
        levels[regions[level].flatten()] = level
    return levels[:num_rows]


def _device(name: str | None) -> str:
    return name or ("cuda" if torch.cuda.is_available() else "cpu")
