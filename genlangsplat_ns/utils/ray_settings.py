"""How work is spread over a Ray cluster; apart from the work itself, so that a command's help imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True)
class RayLiftSettings:
    """How the engine ray spreads the views."""

    address: str | None = None
    """The cluster; None for the one that the environment names, or else a new one on this machine."""
    views_per_task: int = 16
    """Views that one task adds up; so many are done again when its worker dies."""
    num_cpus: float = 1.0
    """CPU cores of a task."""
    num_gpus: float = 0.0
    """GPUs of a task; a part of one lets several share it."""
    gaussians_per_chunk: int = 500_000
    """Sums travel and are joined in chunks of so many Gaussians; Ray moves chunks to disk when memory is short."""

    def __post_init__(self) -> None:
        if self.views_per_task < 1 or self.gaussians_per_chunk < 1:
            raise GenLangSplatError(
                f"Ray needs at least one view per task and one Gaussian per chunk, got {self.views_per_task} and "
                f"{self.gaussians_per_chunk}."
            )
