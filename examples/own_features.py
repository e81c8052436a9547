"""Lifts embeddings of an own encoder or own masks onto an existing scene, which keeps its Gaussians."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.features.extract import extract_features
from genlangsplat_ns.features.masks import MaskGenerator
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.projection import projection_autoencoder
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.lifting import training_views


def with_own_features(
    scene: LanguageScene, masks: MaskGenerator, encoder: ImageTextEncoder, folder: Path
) -> LanguageScene:
    """Returns the same scene with latents from other masks or another encoder.

    The features are stored below the folder, and used again as long as masks, encoder and photographs are the same.
    """
    settings = masks.settings
    identity = StoreIdentity(encoder.name, encoder.identity, encoder.embedding_dim, masks.name, settings, LEVELS)
    folder.mkdir(parents=True, exist_ok=True)
    store = FeatureStore.open(folder, identity)
    photographs = [(view.name, scene.image(view), scene.mask(view)) for view in scene.views("train")]
    keys = extract_features(photographs, store, lambda: masks, lambda: encoder)

    # Without a trained autoencoder for the encoder, fixed random directions compress its embeddings.
    autoencoder = projection_autoencoder(encoder.identity, encoder.embedding_dim)
    own = training_views(scene.model, scene.datamanager)
    posed = [replace(view, key=key) for view, key in zip(own.views, keys, strict=True)]
    views = replace(own, views=posed, store=store, autoencoder=autoencoder.to(own.device))

    shape = scene.model.num_points, len(LEVELS), autoencoder.identity.latent_dim
    lifted = lift_latents(views, *shape, LiftSettings(), views.device, views.small(), with_consensus=True)
    assert lifted.region_consensus is not None, "it was asked for"
    regions = MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights)
    memory = fit_memory(regions, encoder.identity)
    stored = scene.field
    field = LanguageField(stored.means, stored.opacities, lifted.latents, autoencoder.decode, memory)
    return LanguageScene(scene.model, scene.datamanager, scene.stored, field)
