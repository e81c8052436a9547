"""From views to stored language features."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int32, UInt8
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.console import CONSOLE, track
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.features.masks import MaskGenerator
from genlangsplat_ns.features.store import FeatureStore, ViewFeatures

View = tuple[str, UInt8[Tensor, "height width 3"]]
"""Name and undistorted pixels of a view."""


def extract_features(
    views: Sequence[View],
    store: FeatureStore,
    mask_generator: MaskGenerator,
    load_encoder: Callable[[], ImageTextEncoder],
) -> list[str]:
    """Sees to it that the store holds the features of every view.

    Views already stored are not touched, and each new one is stored as soon as it is done: a run that was killed goes
    on where it stopped. The encoder is loaded only when a view is missing.

    Args:
        views: Name and pixels of each view. Items may be made on access; a missing view is accessed twice.
        store: Where the features are kept.
        mask_generator: Finds the regions.
        load_encoder: Returns the encoder of the store.

    Returns:
        The store's key of every view, in order.

    Raises:
        GenLangSplatError: If the encoder is not the one the store was opened for.
    """
    keys = [store.key(*views[index]) for index in range(len(views))]
    # A dictionary drops views that occur twice and keeps the order.
    missing = {key: index for index, key in enumerate(keys) if key not in store}
    CONSOLE.print(f"Language features: {len(keys) - len(missing)} of {len(keys)} views are stored in {store.folder}")
    if not missing:
        return keys
    encoder = load_encoder()
    if (encoder.identity, encoder.embedding_dim) != (store.encoder_identity, store.embedding_dim):
        raise GenLangSplatError(
            f"The encoder is {encoder.identity} with {encoder.embedding_dim} dimensions, but the feature store was "
            f"opened for {store.encoder_identity} with {store.embedding_dim}. "
            "Open the store with the encoder's own identity."
        )
    start = time.perf_counter()
    for key, index in track(list(missing.items()), "Extracting language features"):
        name, image = views[index]
        features = _view_features(image, mask_generator, encoder)
        if len(features.embeddings) == 0:
            CONSOLE.print(f"[yellow]{escape(name)} has no region at any level; it teaches the scene nothing.")
        store.save(key, features)
    seconds = time.perf_counter() - start
    CONSOLE.print(f"Extracted {len(missing)} views in {seconds:.1f} s ({len(missing) / seconds:.2f} views/s)")
    return keys


def _view_features(
    image: UInt8[Tensor, "height width 3"], mask_generator: MaskGenerator, encoder: ImageTextEncoder
) -> ViewFeatures:
    regions = number_regions(mask_generator.generate(image))
    if not bool((regions >= 0).any()):
        return ViewFeatures(regions, torch.zeros(0, encoder.embedding_dim))
    return ViewFeatures(regions, encoder.encode_regions(image, regions))


def number_regions(ids: Int32[Tensor, "levels height width"]) -> Int32[Tensor, "levels height width"]:
    """Numbers the regions of all levels through from 0 without gaps; negative ids become -1.

    Args:
        ids: Region ids that count from 0 within each level, with or without gaps.
    """
    numbered = torch.full_like(ids, -1)
    count = 0
    for level, level_ids in enumerate(ids):
        inside = level_ids >= 0
        known, ranks = torch.unique(level_ids[inside], return_inverse=True)
        numbered[level, inside] = ranks.int() + count
        count += len(known)
    return numbered
