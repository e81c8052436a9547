"""Settings of lifting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True)
class LiftSettings:
    """How latents are lifted.

    Raises:
        GenLangSplatError: A setting is out of range.
    """

    average: Literal["mean", "median"] = "mean"
    """How the views of a Gaussian are combined: weighted mean, or streaming median of directions (VALA)."""
    visibility_gate: float = 1.0
    """A view counts only for Gaussians that together hold this share of its compositing weights (VALA); 1 for all."""
    visibility_cap: float = 1.0
    """A view counts for at most this share of the Gaussians that it sees (VALA)."""
    robust_rounds: int = 2
    """Maximum number of reweighting rounds that downweight inconsistent regions; 0 for the plain average."""
    gradient_steps: int = 0
    """Conjugate gradient steps from the average toward the least-squares fit of the views."""
    damping: float = 0.1
    """Strength of the pull to the average during these steps, relative to the compositing weights of a Gaussian."""

    def __post_init__(self) -> None:
        for name in ("visibility_gate", "visibility_cap"):
            if not 0 < getattr(self, name) <= 1:
                raise GenLangSplatError(f"Found a {name} of {getattr(self, name)}; choose a share above 0, at most 1.")
        for name in ("robust_rounds", "gradient_steps"):
            if getattr(self, name) < 0:
                raise GenLangSplatError(f"Found {getattr(self, name)} {name}; choose 0 to disable them, or more.")
        if not 0 <= self.damping < float("inf"):
            raise GenLangSplatError(f"Found a damping of {self.damping}; choose 0 or a positive number.")
