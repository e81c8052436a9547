"""The choice of masks and encoder, resolved: their names, where their features lie, and how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from genlangsplat_ns.features.open_clip_encoder import openclip_weights_present, require_openclip_weights
from genlangsplat_ns.features.sam_weights import find_checkpoint, require_presence
from genlangsplat_ns.features.settings import EncoderName, FeatureSettings, MaskName
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.console import CONSOLE


class FeatureExtractor:
    """Masks and encoder of a scene.

    Args:
        settings: What is asked for.
        device: Where their models run.

    Attributes:
        encoder_name: conse or openclip.
        encoder_identity: The encoder with its weights and version.
        mask_name: watershed, sam or langsplat.

    Raises:
        GenLangSplatError: If what is asked for does not exist, or its weights are neither there nor to be downloaded.
    """

    def __init__(self, settings: FeatureSettings, device: torch.device | str = "cpu") -> None:
        self._settings = settings
        self._device = str(device)
        self.encoder_name, self.mask_name = _choose(settings, self._device)
        self.encoder_identity = encoder_identity(self.encoder_name, settings.open_clip)

    @property
    def embedding_dim(self) -> int:
        """Width E of the encoder's embeddings; no weights are loaded."""
        return encoder_embedding_dim(self.encoder_name, self._settings.open_clip)

    @cached_property
    def store_identity(self) -> StoreIdentity:
        """Whose features belong to this front end."""
        levels = tuple(name for name in LEVELS if name in self._settings.levels)
        if not levels:
            raise GenLangSplatError(f"Found no level to extract; --levels needs at least one of {', '.join(LEVELS)}.")
        return StoreIdentity(
            encoder=self.encoder_name,
            encoder_identity=self.encoder_identity,
            embedding_dim=self.embedding_dim,
            masks=self.mask_name,
            mask_settings=mask_settings(self.mask_name, self._settings.sam),
            levels=levels,
        )

    def open_store(self, root: Path) -> FeatureStore:
        """Opens the feature store of a data folder."""
        return FeatureStore.open(root, self.store_identity)

    def extract(self, views: Sequence[View], store: FeatureStore) -> list[str]:
        """Extracts what the store does not have; see `extract_features`."""
        return extract_features(views, store, self._load_masks, self._load_region_encoder)

    def _load_masks(self) -> MaskGenerator:
        self._require_weights()
        return self._masks

    def _require_weights(self) -> None:
        """Names everything that is missing at once, before gigabytes of the one are fetched or read for nothing."""
        settings = self._settings
        missing: list[Callable[[], object]] = []
        if self.mask_name == "sam" and (not settings.download_weights or settings.sam.checkpoint is not None):
            missing.append(lambda: require_presence(settings.sam))
        if self.encoder_name == "openclip" and self.mask_name != CONVERTED_MASKS:
            missing.append(lambda: require_openclip_weights(settings.open_clip, settings.download_weights))
        messages = []
        for check in missing:
            try:
                check()
            except GenLangSplatError as error:
                messages.append(str(error))
        if messages:
            raise GenLangSplatError("\n".join(messages))

    def load_text_encoder(self) -> ImageTextEncoder:
        """The encoder for texts. It runs on the CPU: texts are few, and a GPU's memory has better uses."""
        return load_encoder(self.encoder_name, "cpu", self._settings.open_clip, self._settings.download_weights)

    def release(self) -> None:
        """Frees the models."""
        self.__dict__.pop("_masks", None)
        release_encoders()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load_region_encoder(self) -> ImageTextEncoder:
        settings = self._settings
        return load_encoder(self.encoder_name, self._device, settings.open_clip, settings.download_weights)

    @cached_property
    def _masks(self) -> MaskGenerator:
        return load_mask_generator(self.mask_name, self._settings.sam, self._device, self._settings.download_weights)


def _choose(settings: FeatureSettings, device: str) -> tuple[EncoderName, MaskName]:
    """Resolves auto, and says what was taken and why."""
    encoder, masks = settings.encoder, settings.masks
    if masks == CONVERTED_MASKS and encoder == "auto":
        encoder = "openclip"
        CONSOLE.print("Language features: encoder openclip, because LangSplat's masks come with its embeddings.")
    if "auto" not in (encoder, masks):
        return encoder, masks
    on_cuda = device.startswith("cuda")
    reason = "there is no CUDA" if not on_cuda else "the weights are not on this machine (see --download-weights)"
    taken: dict[str, bool] = {}
    if encoder == "auto":
        best = on_cuda and (settings.download_weights or openclip_weights_present(settings.open_clip))
        encoder = "openclip" if best else "conse"
        taken[f"encoder {encoder}"] = best
    if masks == "auto":
        best = on_cuda and (settings.download_weights or find_checkpoint(settings.sam) is not None)
        masks = "sam" if best else "watershed"
        taken[f"masks {masks}"] = best
    if any(taken.values()):
        words = "; ".join(name if best else f"{name}, because {reason}" for name, best in taken.items())
    else:
        words = f"{' and '.join(taken)}, because {reason}"
    CONSOLE.print(f"Language features: {words}.")
    return encoder, masks
