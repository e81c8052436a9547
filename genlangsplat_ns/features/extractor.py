"""Resolves the settings of masks and encoder, loads the models, and extracts features with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import (
    ImageTextEncoder,
    encoder_embedding_dim,
    encoder_identity,
    load_encoder,
    release_encoders,
)
from genlangsplat_ns.features.extract import View, extract_features
from genlangsplat_ns.features.masks import CONVERTED_MASKS, MaskGenerator, load_mask_generator, mask_settings
from genlangsplat_ns.features.open_clip_encoder import openclip_weights_present, resolve_openclip_weights
from genlangsplat_ns.features.sam2 import import_sam2
from genlangsplat_ns.features.sam_weights import find_checkpoint, missing_checkpoint
from genlangsplat_ns.features.settings import EncoderName, FeatureSettings, MaskName
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity
from genlangsplat_ns.levels import LEVELS

LOGGER = logging.getLogger(__name__)


class FeatureExtractor:
    """Mask generator and encoder of a scene; loads them when they are first needed.

    Attributes:
        encoder_name, mask_name: The models, also for `auto`.
        choice: What `auto` took, and why; empty if nothing was left to choose.

    Raises:
        GenLangSplatError: If the encoder is unknown, or the weights file in the settings does not exist.
    """

    def __init__(self, settings: FeatureSettings, device: torch.device | str = "cpu") -> None:
        self._settings = settings
        self._device = str(device)
        self.encoder_name, self.mask_name, self.choice = _resolve(settings, self._device)
        if self.choice:
            LOGGER.info("Language features: %s.", self.choice)
        self.encoder_identity = encoder_identity(self.encoder_name, settings.open_clip)

    @property
    def embedding_dim(self) -> int:
        """Width E of the encoder's embeddings; loads no weights."""
        return encoder_embedding_dim(self.encoder_name, self._settings.open_clip)

    @cached_property
    def store_identity(self) -> StoreIdentity:
        """Identity of the store with the features of these settings."""
        levels = tuple(name for name in LEVELS if name in self._settings.levels)
        if not levels:
            raise GenLangSplatError(
                f"No level to extract was given. Give --levels at least one of {', '.join(LEVELS)}."
            )
        return StoreIdentity(
            encoder=self.encoder_name,
            encoder_identity=self.encoder_identity,
            embedding_dim=self.embedding_dim,
            masks=self.mask_name,
            mask_settings=mask_settings(self.mask_name, self._settings.sam_settings(self.mask_name)),
            levels=levels,
        )

    def open_store(self, root: Path) -> FeatureStore:
        """Opens the feature store of a data folder."""
        return FeatureStore.open(root, self.store_identity)

    def extract(self, views: Sequence[View], store: FeatureStore) -> list[str]:
        """Extracts the views that the store does not have; see `extract_features`."""
        return extract_features(views, store, self._load_masks, self._load_region_encoder)

    def _load_masks(self) -> MaskGenerator:
        self._check_weights()
        return self._masks

    @cached_property
    def _masks(self) -> MaskGenerator:
        settings = self._settings
        sam = settings.sam_settings(self.mask_name)
        return load_mask_generator(self.mask_name, sam, self._device, settings.download_weights)

    def _check_weights(self) -> None:
        """Reports all missing packages and weights together, before any are downloaded or read."""
        settings, messages = self._settings, []
        sam = settings.sam_settings(self.mask_name)
        if self.mask_name == "sam2":
            try:
                import_sam2()
            except GenLangSplatError as error:
                messages.append(str(error))
        downloads = settings.download_weights and sam.checkpoint is None
        if self.mask_name in ("sam", "sam2") and not downloads and find_checkpoint(sam) is None:
            messages.append(str(missing_checkpoint(sam)))
        if self.encoder_name == "openclip" and self.mask_name != CONVERTED_MASKS:
            try:
                resolve_openclip_weights(settings.open_clip, settings.download_weights)
            except GenLangSplatError as error:
                messages.append(str(error))
        if messages:
            raise GenLangSplatError("\n".join(messages))

    def load_text_encoder(self) -> ImageTextEncoder:
        """Loads the encoder for texts on the CPU, to save GPU memory."""
        return self._load_encoder("cpu")

    def release(self) -> None:
        """Releases the models and frees cached GPU memory."""
        self.__dict__.pop("_masks", None)
        release_encoders()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load_region_encoder(self) -> ImageTextEncoder:
        return self._load_encoder(self._device)

    def _load_encoder(self, device: str) -> ImageTextEncoder:
        settings = self._settings
        return load_encoder(self.encoder_name, device, settings.open_clip, settings.download_weights)


def _resolve(settings: FeatureSettings, device: str) -> tuple[EncoderName, MaskName, str]:
    """Resolves `auto`, and also returns what was chosen and why."""
    encoder, masks = settings.encoder, settings.masks
    if masks == CONVERTED_MASKS and encoder == "auto":
        return "openclip", masks, "encoder openclip, because LangSplat's files contain its embeddings"
    if "auto" not in (encoder, masks):
        return encoder, masks, ""
    on_cuda = device.startswith("cuda")
    reason = "there is no CUDA" if not on_cuda else "the weights are not on this machine (see --download-weights)"
    chosen: dict[str, bool] = {}
    if encoder == "auto":
        best = on_cuda and (settings.download_weights or openclip_weights_present(settings.open_clip))
        encoder = "openclip" if best else "conse"
        chosen[f"encoder {encoder}"] = best
    if masks == "auto":
        best = on_cuda and (settings.download_weights or find_checkpoint(settings.sam) is not None)
        masks = "sam" if best else "watershed"
        chosen[f"masks {masks}"] = best
    if any(chosen.values()):
        words = "; ".join(name if best else f"{name}, because {reason}" for name, best in chosen.items())
    else:
        words = f"{' and '.join(chosen)}, because {reason}"
    return encoder, masks, words
