"""The paper's way to latents, for comparison: 30,000 steps of Adam on L1 and cosine, one view a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.lifting import LabelledView, region_targets
from genlangsplat_ns.rasterization import rasterization

PAPER_STEPS = 30_000
LEARNING_RATE = 0.0025
"""LangSplat's for its language features."""

Render = Callable[[int, Tensor], Tensor]
"""Renders what the Gaussians carry in one of the views."""


@dataclass(frozen=True)
class AdamProgress:
    """Where the optimisation stands."""

    step: int
    seconds: float
    """Processor time of the steps so far, and of nothing between them."""
    latents: Float[Tensor, "num_gaussians levels latent_dim"]
    """Unit latents."""

    @property
    def seconds_in_all(self) -> float:
        """What the paper's number of steps takes, or would take."""
        return self.seconds / self.step * PAPER_STEPS


def optimise(
    views: Sequence[LabelledView], render: Render, shape: tuple[int, int, int], stops: Sequence[int], seed: int = 0
) -> Iterator[AdamProgress]:
    """Fits latents from zeros, all levels at once.

    Args:
        views: The training views.
        render: Renders one of them; `kept` and `anew` make such functions.
        shape: Gaussians, levels, width of a latent.
        stops: After how many steps to tell; the last number ends it.
        seed: Of the order of the views.
    """
    latents = torch.zeros(shape, requires_grad=True)
    optimiser = torch.optim.Adam([latents], lr=LEARNING_RATE, eps=1e-15, fused=True)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    seconds = 0.0
    for step in range(1, stops[-1] + 1):
        order = order or torch.randperm(len(views), generator=generator).tolist()
        number = order.pop()
        start = time.process_time()
        targets, labelled = region_targets(views[number].regions, views[number].latents)
        rendered = render(number, latents.flatten(1)).unflatten(-1, shape[1:])[labelled]
        cosine = F.cosine_similarity(rendered, targets[labelled], dim=-1, eps=1e-6)
        loss = (rendered - targets[labelled]).abs().mean() + 1 - cosine.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds += time.process_time() - start
        if step in stops:
            yield AdamProgress(step, seconds, F.normalize(latents.detach(), dim=-1))


def kept(views: Sequence[LabelledView]) -> Render:
    """Multiplies with the compositing weights of the views."""
    return lambda number, features: views[number].operator.composite(features)


def anew(geometry: tuple[Tensor, Tensor, Tensor, Tensor], cameras: Sequence[tuple[Tensor, Tensor, int, int]]) -> Render:
    """Renders the Gaussians at every step, as the paper and LangSplat do.

    Args:
        geometry: Means, rotations, scales and opacities, as the rasterizer takes them.
        cameras: World-to-camera matrix, camera matrix, width and height of each view.
    """
    means, quats, scales, opacities = geometry

    def render(number: int, features: Tensor) -> Tensor:
        viewmat, K, width, height = cameras[number]
        return rasterization(means, quats, scales, opacities, features, viewmat[None], K[None], width, height)[0][0]

    return render
