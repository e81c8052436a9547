"""gsplat's default densification with a ceiling on the number of Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gsplat.strategy import DefaultStrategy


@dataclass
class BudgetedStrategy(DefaultStrategy):
    """Densifies as `DefaultStrategy` does, but lets only the neediest Gaussians grow once a budget comes near.

    Each duplicated or split Gaussian adds one. When more ask for it than the budget has room for, the gradient
    threshold rises for this refinement to the value that only the strongest of them pass.
    """

    grow_grad2d: float = 0.0002
    grow_scale2d: float = 0.05
    max_gaussians: int | None = None

    def step_post_backward(self, params: Any, optimizers: Any, state: Any, step: int, info: Any, **kwargs: Any) -> None:
        """Runs gsplat's step with thresholds that keep to the budget."""
        usual = self.grow_grad2d, self.grow_scale2d
        if self.max_gaussians is not None and step % self.refine_every == 0 and state["grad2d"] is not None:
            room = self.max_gaussians - len(params["means"])
            need = state["grad2d"] / state["count"].clamp_min(1)
            if int((need > self.grow_grad2d).sum()) > room:
                # Splitting by screen size would come on top of what the gradients ask for.
                self.grow_scale2d = math.inf
                self.grow_grad2d = math.inf if room <= 0 else float(need.topk(room + 1).values[-1])
        try:
            super().step_post_backward(params, optimizers, state, step, info, **kwargs)
        finally:
            self.grow_grad2d, self.grow_scale2d = usual
