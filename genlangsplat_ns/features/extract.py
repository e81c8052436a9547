"""From views to stored language features."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import UInt8
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.features.masks import MaskGenerator
from genlangsplat_ns.features.store import FeatureStore, ViewFeatures
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.progress import track

View = tuple[str, UInt8[Tensor, "_ _ 3"]]
"""Name and undistorted pixels of a view, whose sizes may differ."""


def extract_features(
    views: Sequence[View],
    store: FeatureStore,
    load_masks: Callable[[], MaskGenerator],
    load_encoder: Callable[[], ImageTextEncoder],
) -> list[str]:
    """Sees to it that the store holds the features of every view.

    Views already stored are not touched, and each new one is stored as soon as it is done: a run that was killed goes
    on where it stopped. Models are loaded only when a view is missing.

    Args:
        views: Name and pixels of each view. Items may be made on access; a missing view is accessed twice.
        store: Where the features are kept.
        load_masks: Returns the mask generator of the store.
        load_encoder: Returns the encoder of the store.

    Returns:
        The store's key of every view, in order.

    Raises:
        GenLangSplatError: If a model cannot be loaded or is not the one the store was opened for, or a view cannot be
            stored.
    """
    keys = [store.key(*views[index]) for index in track(range(len(views)), "Reading views")]
    missing = _missing(keys, store)
    hits = len(keys) - len(missing)
    CONSOLE.print(f"Language features: {hits} of {len(keys)} views are stored in {escape(str(store.folder))}")
    if missing:
        try:
            mask_generator, encoder = load_masks(), load_encoder()
        except GenLangSplatError:
            store.forget_if_empty()
            raise
        with store.writing() as waited:
            # What another process has stored meanwhile is done.
            missing = _missing(keys, store) if waited else missing
            if missing:
                _extract_missing(views, missing, store, mask_generator, encoder)
    return keys


def _missing(keys: list[str], store: FeatureStore) -> dict[str, int]:
    """Key and index of each view that is not stored, in order and without those that occur twice."""
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
    for key, index in track(list(missing.items()), "Extracting language features"):
        name, image = views[index]
        features = view_features(image, mask_generator, encoder, levels)
        if len(features.embeddings) == 0:
            CONSOLE.print(f"[yellow]{escape(name)} has no region at any level; it teaches the scene nothing.")
        store.save(key, features)
    seconds = time.perf_counter() - start
    CONSOLE.print(f"Extracted {len(missing)} views in {seconds:.1f} s ({len(missing) / seconds:.2f} views/s)")


def view_features(
    image: UInt8[Tensor, "height width 3"],
    mask_generator: MaskGenerator,
    encoder: ImageTextEncoder,
    levels: Sequence[int] = range(len(LEVELS)),
) -> ViewFeatures:
    """Finds and embeds the regions of one view.

    Args:
        image: The view, RGB.
        mask_generator: Finds the masks.
        encoder: Embeds them. A mask is embedded whole, also where others of its level lie on top of it.
        levels: Indices of the levels wanted; the others stay empty.
    """
    masks = mask_generator.generate(image).at_levels(levels).visible()
    embeddings = encoder.encode_regions(image, masks) if len(masks) else torch.zeros(0, encoder.embedding_dim)
    return ViewFeatures(masks.paint(), embeddings)
