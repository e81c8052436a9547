"""Extracts the language features of views into a feature store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.costs import EMBEDDINGS, MASKS, ExtractionCosts, ViewCost
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.features.masks import MaskGenerator
from genlangsplat_ns.features.store import FeatureStore
from genlangsplat_ns.features.view_file import ViewFeatures
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.progress import track
from genlangsplat_ns.utils.stopwatch import running_stopwatch, stage, time_between

LOGGER = logging.getLogger(__name__)

View = tuple[str, UInt8[Tensor, "_ _ 3"], Bool[Tensor, "_ _"] | None]
"""Name, undistorted pixels and mask of a view: the pixels that count, or None for all. Sizes may differ."""


def extract_features(
    views: Sequence[View],
    store: FeatureStore,
    load_masks: Callable[[], MaskGenerator],
    load_encoder: Callable[[], ImageTextEncoder],
) -> list[str]:
    """Extracts the features of all views that the store does not have.

    Each view is stored at once, so a killed run continues where it stopped. Models are loaded if a view is missing.

    Args:
        views: Name, pixels and mask of each view. Items may be computed on access; a missing view is accessed twice.

    Returns:
        The key of each view in the store, in order.

    Raises:
        GenLangSplatError: If a model cannot be loaded or does not match the store, a view cannot be stored, or no pixel
            of any view counts.
    """
    keys, num_empty = [], 0
    for index in track(range(len(views)), "Reading views"):
        name, image, kept = views[index]
        keys.append(store.key(name, image, kept))
        num_empty += kept is not None and not bool(kept.any())
    # A single view without such pixels may belong to a scene of others.
    if len(keys) > 1 and num_empty == len(keys):
        raise GenLangSplatError(
            f"All pixels of all {len(keys)} views are masked or transparent, so there is nothing to learn. Masks are "
            "black where a photograph is to be ignored. Invert them if they are white there."
        )
    missing = _missing(keys, store)
    hits = len(keys) - len(missing)
    LOGGER.info("Language features: %d of %d views are stored in %s", hits, len(keys), store.folder)
    if missing:
        try:
            with stage(MASKS):
                mask_generator = load_masks()
            with stage(EMBEDDINGS):
                encoder = load_encoder()
        except GenLangSplatError:
            store.remove_if_empty()
            raise
        with store.writing() as waited:
            # Another process may have stored some views in the meantime.
            missing = _missing(keys, store) if waited else missing
            if missing:
                _extract_missing(views, missing, store, mask_generator, encoder)
    return keys


def _missing(keys: list[str], store: FeatureStore) -> dict[str, int]:
    """Returns key and index of each view that is not stored, in order and without duplicates."""
    return {key: index for index, key in enumerate(keys) if key not in store}


def _extract_missing(
    views: Sequence[View],
    missing: dict[str, int],
    store: FeatureStore,
    mask_generator: MaskGenerator,
    encoder: ImageTextEncoder,
) -> None:
    expected = store.identity
    if (encoder.identity, encoder.embedding_dim) != (expected.encoder_identity, expected.embedding_dim):
        raise GenLangSplatError(
            f"The encoder is {encoder.identity} with {encoder.embedding_dim} dimensions, but the feature store was "
            f"opened for {expected.encoder_identity} with {expected.embedding_dim}. "
            "Open the store with the encoder's own identity."
        )
    levels = [LEVELS.index(name) for name in expected.levels]
    start = time.perf_counter()
    costs = ExtractionCosts(store.folder)
    with running_stopwatch() as watch:
        try:
            for key, index in track(list(missing.items()), "Extracting language features"):
                name, image, kept = views[index]
                before = watch.cost(MASKS), watch.cost(EMBEDDINGS)
                features = view_features(image, mask_generator, encoder, levels, kept)
                if len(features.embeddings) == 0:
                    LOGGER.warning("%s has no region at any level, so it does not contribute to the scene.", name)
                store.save(key, features)
                after = watch.cost(MASKS), watch.cost(EMBEDDINGS)
                costs.add(key, ViewCost(len(features.embeddings), *map(time_between, before, after)))
        finally:
            costs.save()
    seconds = time.perf_counter() - start
    LOGGER.info("Extracted %d views in %.1f s (%.2f views/s)", len(missing), seconds, len(missing) / seconds)


def view_features(
    image: UInt8[Tensor, "height width 3"],
    mask_generator: MaskGenerator,
    encoder: ImageTextEncoder,
    levels: Sequence[int] = range(len(LEVELS)),
    kept: Bool[Tensor, "height width"] | None = None,
) -> ViewFeatures:
    """Finds and embeds the regions of an RGB view at the levels with these indices; the others stay empty.

    The encoder embeds each mask as a whole, including pixels that other masks of the level hide. Pixels that are not
    `kept` (None keeps all) are black and belong to no region.
    """
    if kept is None or bool(kept.all()):
        with stage(MASKS):
            masks = mask_generator.generate(image)
    else:
        image = image * kept[..., None].to(image.device)
        with stage(MASKS):
            masks = mask_generator.generate(image, kept).clipped(kept.cpu().numpy())
    masks = masks.at_levels(levels).visible()
    embeddings = torch.zeros(0, encoder.embedding_dim)
    if len(masks):
        with stage(EMBEDDINGS):
            embeddings = encoder.encode_regions(image, masks)
    return ViewFeatures(masks.paint(), embeddings)
