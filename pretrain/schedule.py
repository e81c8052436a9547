"""Learning rate and momentum as functions of the step, so that checkpoints need no scheduler state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["one-cycle", "cosine"]
"""`one-cycle`: cosine increase of the rate while the momentum decreases, then the reverse. `cosine`: linear warmup,
then cosine decay."""

ONE_CYCLE_START = 1 / 25
"""Initial learning rate of a one-cycle schedule, as a fraction of the peak."""
ONE_CYCLE_END = 1e-4
"""Final learning rate of a one-cycle schedule, as a fraction of the initial one."""
ONE_CYCLE_MOMENTUM = (0.85, 0.95)
"""Momentum of a one-cycle schedule at the peak of the learning rate, and at both ends."""
COSINE_MOMENTUM = 0.9


@dataclass(frozen=True)
class StepRates:
    """Learning rate and momentum (AdamW's first beta) of one step."""

    learning_rate: float
    momentum: float


def rates_at(step: int, steps: int, peak: float, warmup: float, schedule: ScheduleName) -> StepRates:
    """Returns learning rate and momentum of a step.

    Args:
        step: Index of the step, from 0.
        steps: Total number of steps.
        peak: Maximum learning rate.
        warmup: Fraction of the steps in which the learning rate increases, between 0 and 1.
        schedule: Name of the schedule.
    """
    if schedule == "cosine":
        rising = warmup * steps
        if step < rising:
            return StepRates(peak * (step + 1) / math.ceil(rising), COSINE_MOMENTUM)
        return StepRates(_between(peak, 0.0, (step - rising) / (steps - rising)), COSINE_MOMENTUM)
    low, high = ONE_CYCLE_MOMENTUM
    # Same values as torch's OneCycleLR with one more step.
    top = warmup * (steps + 1) - 1
    if step <= top:
        part = step / top if top > 0 else 1.0
        return StepRates(_between(peak * ONE_CYCLE_START, peak, part), _between(high, low, part))
    part = (step - top) / (steps - top)
    return StepRates(_between(peak, peak * ONE_CYCLE_START * ONE_CYCLE_END, part), _between(low, high, part))


def _between(start: float, end: float, part: float) -> float:
    """Interpolates from start to end along half a cosine period."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
