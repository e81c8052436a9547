"""The paper's optimization of latents, as a baseline: Adam on L1 and cosine, tuned as well as possible."""

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
"""Renders the latents of the Gaussians in one of the views."""


@dataclass(frozen=True)
class AdamSettings:
    """Settings of Adam; the defaults are LangSplat's values for its language features."""

    learning_rate: float = 0.0025
    epsilon: float = LANGSPLAT_EPSILON
    """Added to the root of the second moment. Gradients are so small here that 0.001 is larger than the root."""
    start: float = 0.0
    """Standard deviation of the normal initial latents; 0 for zeros, as in the paper."""
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
    """State of the optimization."""

    step: int
    seconds: float
    """Processor time of the steps so far, without the scoring between them."""
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
    """Fits latents at all levels. The target images of the views are cached.

    Args:
        views: The training views.
        render: Renders one of them; `kept` and `anew` make such functions.
        shape: Number of Gaussians, levels, and latent dimensions.
        stops: Numbers of steps after which the state is yielded; the last one ends the optimization.
        settings: Settings of Adam.
        seed: Seed of the order of the views and of the initial latents.
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
    """Renders with the cached compositing weights of the views."""
    return lambda number, features: views[number].operator.composite(features)


def anew(gaussians: Gaussians, views: Sequence[View]) -> Render:
    """Renders the Gaussians at every step, as the paper and LangSplat do."""
    return lambda number, features: render_once(gaussians, views[number], features)[0][0]
