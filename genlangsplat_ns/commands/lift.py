"""`gen-langsplat lift`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rich.markup import escape

from genlangsplat_ns.commands.run_settings import StoredRunSettings
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.ray import RaySettings


@dataclass(frozen=True, kw_only=True)
class Lift(StoredRunSettings):
    """Lift the latents of a trained run again, locally or on a Ray cluster, and write a new checkpoint of the run."""

    engine: Literal["local", "ray"] = "local"
    """local processes the views in this process; ray distributes them over a cluster."""
    robust_rounds: int | None = None
    """Rounds that reduce the weight of regions that contradict other views; None for the number from training."""
    ray: RaySettings = field(default_factory=RaySettings)
    """Settings of the engine ray."""

    def __call__(self) -> None:
        from genlangsplat_ns.run import open_run
        from genlangsplat_ns.scene.lifting import lift_run

        # The memory is replaced anyway, so a damaged one is ignored.
        scene = open_run(self.load_config, "autoencoder", require_language=False, data=self.data)
        assert scene.stored is not None, "it was opened from a file"
        ray = self.ray if self.engine == "ray" else None
        checkpoint = lift_run(scene, scene.stored, self.robust_rounds, ray)
        CONSOLE.print(f"The new checkpoint is {escape(str(checkpoint))}.", soft_wrap=True)
