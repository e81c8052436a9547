"""Lifts the latents of a whole scene from its training views and fits the memory that decodes them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.language.memory import SceneMemory
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions, collect_regions
from genlangsplat_ns.lifting.ray import lift_on_ray
from genlangsplat_ns.lifting.region_views import PosedView, RegionViews
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.rasterization import WeightCache
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.runs import StoredRun, add_checkpoint
from genlangsplat_ns.utils.ray import RaySettings
from genlangsplat_ns.utils.stopwatch import stage

LOGGER = logging.getLogger(__name__)

LIFTING, MEMORY = "lifting", "memory"
"""Stages of a stopwatch."""


@torch.no_grad()
def training_views(model: GenLangSplatModel, data: GenLangSplatDataManager) -> RegionViews:
    """Returns the training views with their regions; features missing from the store are extracted on access."""
    views = []
    for index in range(len(data.train_dataset)):
        name, key = data.view_name("train", index), data.language_key("train", index)
        views.append(PosedView(name, key, model.view(data.camera("train", index))))
    return RegionViews(
        gaussians=model.geometry(),
        rasterize_mode=model.config.rasterize_mode,
        views=views,
        store=data.store,
        autoencoder=model.field_head.autoencoder,
        cache=WeightCache(int(model.config.language_cache_gb * 1e9)),
    )


def lift_scene(
    model: GenLangSplatModel,
    data: GenLangSplatDataManager,
    left_out: Collection[str] = (),
    ray: RaySettings | None = None,
) -> tuple[LiftedLatents, SceneMemory]:
    """Lifts the latents of all training views, all levels at once, and fits the memory that decodes them.

    The model is not changed. Views with the names `left_out` are ignored. With `ray`, Ray processes the views.
    """
    with stage(LIFTING):
        views, settings = training_views(model, data), model.config.lifting
        views = replace(views, views=[view for view in views.views if view.name not in left_out])
        count, levels, latent_dim = model.latents.shape
        if ray is None:
            small = views.small()
            lifted = lift_latents(views, count, levels, latent_dim, settings, model.device, small, with_consensus=True)
        else:
            views = replace(views.to("cpu"), cache=None)
            lifted = lift_on_ray(views, (count, levels, latent_dim), settings, ray)
    assert lifted.region_consensus is not None, "lifting was called with with_consensus"
    with stage(MEMORY):
        names = [view.name for view in views.views]
        regions = MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights, names)
        memory = fit_memory(regions, model.field_head.autoencoder.identity.encoder)
    if ray is not None:
        lifted = LiftedLatents(lifted.latents.to(model.device), lifted.mass.to(model.device))
    return lifted, memory


def fit_scene_memory(model: GenLangSplatModel, data: GenLangSplatDataManager) -> SceneMemory:
    """Fits a memory to the current latents of the Gaussians."""
    with stage(MEMORY):
        views = replace(training_views(model, data).small(), cache=None)
        regions = collect_regions(views, model.latents.detach(), None)
        return fit_memory(regions, model.field_head.autoencoder.identity.encoder)


def describe_lift(lifted: LiftedLatents, memory: SceneMemory | None) -> str:
    """Summarizes a lifting result in one sentence."""
    share = float(lifted.seen.any(dim=-1).float().mean())
    sentence = f"Lifted latents onto {share:.0%} of {len(lifted.mass):,} Gaussians"
    return f"{sentence}." if memory is None else f"{sentence}, with a memory of {len(memory)} keys."


def lift_run(scene: LanguageScene, run: StoredRun, robust_rounds: int | None, ray: RaySettings | None) -> Path:
    """Lifts the latents of a stored run again and writes a new checkpoint, which all commands open from then on.

    A run that stopped before its language phase enters it with its current Gaussians. Optimized latents are kept and
    only get a memory, unless rounds or a cluster are given.

    `robust_rounds` is the number of rounds that reweight regions, by default that from training. With `ray`, Ray
    processes the views.
    """
    model, data = scene.model, scene.datamanager
    data.extract()
    optimized = model.in_language_phase and model.config.language_solver == "adam"
    if optimized and robust_rounds is None and ray is None:
        memory = fit_scene_memory(model, data)
        model.set_memory(memory)
        LOGGER.info("Kept the optimized latents, with a memory of %d keys.", len(memory))
    else:
        if robust_rounds is not None:
            model.config.lifting = replace(model.config.lifting, robust_rounds=robust_rounds)
        lifted, memory = lift_scene(model, data, ray=ray)
        if not model.in_language_phase:
            model.enter_language_phase(model.step + 1)
        model.set_latents(lifted, memory)
        LOGGER.info("%s", describe_lift(lifted, memory))
    return add_checkpoint(run, model.state_dict())
