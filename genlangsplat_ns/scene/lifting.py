"""Lifting the latents of a run that is trained already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from rich.markup import escape

from genlangsplat_ns.language.memory import SceneMemory
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.lifting.ray import lift_on_ray
from genlangsplat_ns.pipeline import GenLangSplatPipeline
from genlangsplat_ns.run import open_pipeline
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.ray import RaySettings


def lift_run(config_path: Path, robust_rounds: int | None, spread: RaySettings | None) -> Path:
    """Lifts the latents of a run anew and writes them as one more checkpoint, which every command then opens.

    A run that has not come to its language phase is put there, with the Gaussians it has. Optimized latents stay as
    they are, unless rounds or a cluster are asked for, and get a memory.

    Args:
        config_path: The run's `config.yml`.
        robust_rounds: Rounds in which regions are judged; None for what the run was trained with.
        spread: How a Ray cluster shares the views; None to lift in this process.

    Returns:
        The new checkpoint.

    Raises:
        GenLangSplatError: The run cannot be opened, or its views cannot be lifted.
    """
    # Whatever the run remembers is about to be replaced, so a damaged memory is no reason to stop.
    pipeline, checkpoint = open_pipeline(config_path, "autoencoder")
    model = pipeline.model
    keeps_latents = model.in_language_phase and model.config.language_solver == "adam"
    if keeps_latents and robust_rounds is None and spread is None:
        memory = pipeline.remember()
        model.set_memory(memory)
        return _write(pipeline, checkpoint, config_path, f"Kept the optimized latents, with {_keys(memory)}")
    if robust_rounds is not None:
        model.config.language_robust_rounds = robust_rounds
    lifted, memory = pipeline.lift() if spread is None else _lift_on_ray(pipeline, spread)
    if not model.in_language_phase:
        model.enter_language_phase(model.step + 1)
    model.set_latents(lifted, memory)
    seen = float(lifted.seen.any(dim=-1).float().mean())
    done = f"Lifted latents onto {seen:.0%} of {len(lifted.mass):,} Gaussians, with {_keys(memory)}"
    return _write(pipeline, checkpoint, config_path, done)


def _keys(memory: SceneMemory) -> str:
    return f"a memory of {len(memory)} keys"


def _write(pipeline: GenLangSplatPipeline, checkpoint: Path, config_path: Path, done: str) -> Path:
    """Writes the run as one more checkpoint, and says what was done."""
    # The optimizers stay as they are: whoever raises the number of steps can go on.
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    step = int(state["step"]) + 1
    written = checkpoint.with_name(f"step-{step:09d}.ckpt")
    # Not beside the checkpoints: nerfstudio takes every name there for that of a checkpoint.
    with atomic_path(written, within=config_path.parent) as temporary:
        torch.save({**state, "step": step, "pipeline": pipeline.state_dict()}, temporary)
    CONSOLE.print(f"{done}: {escape(str(written))}.")
    return written


def _lift_on_ray(pipeline: GenLangSplatPipeline, spread: RaySettings) -> tuple[LiftedLatents, SceneMemory]:
    num_gaussians, levels, latent_dim = pipeline.model.latents.shape
    views = replace(pipeline.training_views().to("cpu"), cache=None)
    lifted = lift_on_ray(views, (num_gaussians, levels, latent_dim), pipeline.model.config.lift_settings, spread)
    memory = pipeline.fit_memory(views, lifted)
    return LiftedLatents(lifted.latents.to(pipeline.device), lifted.mass.to(pipeline.device)), memory
