"""The paper's way to latents, for comparison: Adam on L1 and cosine, made as strong as it can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.lifting.loss import language_loss
from genlangsplat_ns.lifting.regions import RegionView, region_targets
from genlangsplat_ns.rasterization import Gaussians, View
from genlangsplat_ns.rasterization import render as render_once

PAPER_STEPS = 30_000
LANGSPLAT_EPSILON = 1e-15

Render = Callable[[int, Tensor], Tensor]
"""Renders what the Gaussians carry in one of the views."""


@dataclass(frozen=True)
class AdamSettings:
    """How Adam goes about it; as they stand, LangSplat's values for its language features."""

    learning_rate: float = 0.0025
    epsilon: float = LANGSPLAT_EPSILON
    """What Adam adds to the root of the second moment. Gradients are small here: 0.001 outweighs the root."""
    start: float = 0.0
    """Spread of the normal numbers that latents begin with; 0 for the paper's zeros."""
    views_a_step: int = 1

    def __str__(self) -> str:
        parts = [f"rate {self.learning_rate:g}"]
        if self.epsilon != LANGSPLAT_EPSILON:
            parts.append(f"epsilon {self.epsilon:g}")
        if self.start > 0:
            parts.append(f"start {self.start:g}")
        if self.views_a_step > 1:
            parts.append(f"{self.views_a_step} views a step")
        return ", ".join(parts)


@dataclass(frozen=True)
class AdamProgress:
    """Where the optimization stands."""

    step: int
    seconds: float
    """Processor time of the steps so far, and of nothing between them."""
    latents: Float[Tensor, "num_gaussians levels latent_dim"]
    """Unit latents."""


def optimize(
    views: Sequence[RegionView],
    render: Render,
    shape: tuple[int, int, int],
    stops: Sequence[int],
    settings: AdamSettings,
    seed: int = 0,
) -> Iterator[AdamProgress]:
    """Fits latents, all levels at once. The targets of a view are painted once and kept.

    Args:
        views: The training views.
        render: Renders one of them; `kept` and `anew` make such functions.
        shape: Gaussians, levels, width of a latent.
        stops: After how many steps to tell; the last number ends it.
        settings: Of Adam.
        seed: Of the order of the views and of the start.
    """
    generator = torch.Generator().manual_seed(seed)
    latents = (settings.start * torch.randn(shape, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=settings.learning_rate, eps=settings.epsilon, fused=True)
    targets: dict[int, tuple[Tensor, Tensor]] = {}
    order: list[int] = []
    seconds = 0.0
    for step in range(1, stops[-1] + 1):
        start = time.process_time()
        optimizer.zero_grad()
        for _ in range(settings.views_a_step):
            order = order or torch.randperm(len(views), generator=generator).tolist()
            number = order.pop()
            if number not in targets:
                targets[number] = region_targets(views[number].regions, views[number].latents)
            rendered = render(number, latents.flatten(1)).unflatten(-1, shape[1:])
            loss = sum(language_loss(rendered, *targets[number]))
            (loss / settings.views_a_step).backward()
        optimizer.step()
        seconds += time.process_time() - start
        if step in stops:
            yield AdamProgress(step, seconds, F.normalize(latents.detach(), dim=-1))


def kept(views: Sequence[RegionView]) -> Render:
    """Multiplies with the compositing weights of the views."""
    return lambda number, features: views[number].operator.composite(features)


def anew(gaussians: Gaussians, views: Sequence[View]) -> Render:
    """Renders the Gaussians at every step, as the paper and LangSplat do."""
    return lambda number, features: render_once(gaussians, views[number], features)[0][0]
