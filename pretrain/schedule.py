"""Learning rates as a function of the step, so that a resumed training needs no state of a schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["one-cycle", "cosine"]
"""`one-cycle` rises along a cosine while the momentum falls, then the reverse; `cosine` rises straight, then falls."""

ONE_CYCLE_START = 1 / 25
"""Part of the peak at which a one-cycle schedule begins."""
ONE_CYCLE_END = 1e-4
"""Part of its beginning at which a one-cycle schedule ends."""
ONE_CYCLE_MOMENTUM = (0.85, 0.95)
"""Momentum at the peak of the learning rate, and at both ends."""
COSINE_MOMENTUM = 0.9


@dataclass(frozen=True)
class StepRates:
    """Learning rate and momentum (AdamW's first beta) of one step."""

    learning_rate: float
    momentum: float


def rates_at(step: int, steps: int, peak: float, warmup: float, schedule: ScheduleName) -> StepRates:
    """Gives the pace of a step.

    Args:
        step: Counts from 0.
        steps: Steps of the whole training.
        peak: Greatest learning rate.
        warmup: Part of the steps in which the learning rate rises, between 0 and 1.
        schedule: Its shape.
    """
    if schedule == "cosine":
        rising = warmup * steps
        if step < rising:
            return StepRates(peak * (step + 1) / math.ceil(rising), COSINE_MOMENTUM)
        return StepRates(_between(peak, 0.0, (step - rising) / (steps - rising)), COSINE_MOMENTUM)
    low, high = ONE_CYCLE_MOMENTUM
    # Peak and end lie between steps as in torch's OneCycleLR over one step more than there are.
    top = warmup * (steps + 1) - 1
    if step <= top:
        part = step / top if top > 0 else 1.0
        return StepRates(_between(peak * ONE_CYCLE_START, peak, part), _between(high, low, part))
    part = (step - top) / (steps - top)
    return StepRates(_between(peak, peak * ONE_CYCLE_START * ONE_CYCLE_END, part), _between(low, high, part))


def _between(start: float, end: float, part: float) -> float:
    """Goes from start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
