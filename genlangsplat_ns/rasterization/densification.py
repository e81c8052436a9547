"""gsplat's default densification with a maximum number of Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy
from gsplat.strategy.ops import reset_opa


@dataclass
class BudgetedStrategy(DefaultStrategy):
    """`DefaultStrategy` with a budget: near it, only the Gaussians with the largest gradients are densified.

    Each duplicated or split Gaussian adds one. If more Gaussians exceed the gradient threshold than the budget allows,
    the threshold is raised for this refinement, so that only those with the largest gradients exceed it. With every
    version of gsplat, the opacities are reset at every step that `reset_every` divides.
    """

    max_gaussians: int | None = None

    def step_post_backward(self, params: Any, optimizers: Any, state: Any, step: int, info: Any, **kwargs: Any) -> None:
        """Runs gsplat's step, and resets the opacities where some versions do not."""
        super().step_post_backward(params, optimizers, state, step, info, **kwargs)
        if step < self.refine_stop_iter and step % self.reset_every == 0:
            # gsplat 1.5 never resets them, because it binds `0 & step` first. A second reset changes nothing.
            reset_opa(params, optimizers, state, value=self.prune_opa * 2.0)

    @torch.no_grad()
    def _grow_gs(self, params: Any, optimizers: Any, state: Any, step: int, **kwargs: Any) -> Any:
        """Grows with thresholds that respect the budget; only here do the sums have the gradients of this step."""
        thresholds = self.grow_grad2d, self.grow_scale2d
        if self.max_gaussians is not None:
            room = self.max_gaussians - len(params["means"])
            gradients = state["grad2d"] / state["count"].clamp_min(1)
            growing = gradients > self.grow_grad2d
            wanted = growing
            if step < self.refine_scale2d_stop_iter:
                wanted = growing | (state["radii"] > self.grow_scale2d)
            if int(wanted.sum()) > room:
                # Gradients come first; splits by screen size would come on top of those by gradient.
                self.grow_scale2d = math.inf
                if int(growing.sum()) > room:
                    self.grow_grad2d = math.inf if room <= 0 else float(gradients.topk(room + 1).values[-1])
        try:
            return super()._grow_gs(params, optimizers, state, step, **kwargs)
        finally:
            self.grow_grad2d, self.grow_scale2d = thresholds

    @torch.no_grad()
    def _update_state(self, params: Any, state: Any, info: Any, packed: bool = False) -> None:
        """Adds one image to the running sums of gsplat, for all Gaussians instead of a list of the visible ones.

        Invisible Gaussians have no gradient and no radius, so the sums are the same. Indexing took longer than the rest
        of the densification in a step.
        """
        means2d = info[self.key_for_gradient]
        if packed or info["n_cameras"] != 1 or means2d.is_cuda:
            super()._update_state(params, state, info, packed)
            return
        gradient = (means2d.absgrad if self.absgrad else means2d.grad)[0]
        radii = info["radii"][0]
        for name in ("grad2d", "count", "radii"):
            if state.get(name) is None and (name != "radii" or self.refine_scale2d_stop_iter > 0):
                state[name] = torch.zeros(len(gradient))
        state["grad2d"] += torch.hypot(gradient[:, 0] * (info["width"] / 2), gradient[:, 1] * (info["height"] / 2))
        state["count"] += radii > 0
        if self.refine_scale2d_stop_iter > 0:
            shares = radii / float(max(info["width"], info["height"]))
            torch.maximum(state["radii"], shares, out=state["radii"])
