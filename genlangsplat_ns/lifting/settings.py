"""Settings of lifting."""

from __future__ import annotations

from dataclasses import dataclass

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True)
class LiftSettings:
    """How latents are lifted."""

    robust_rounds: int = 2
    """Maximum number of reweighting rounds that downweight inconsistent regions; 0 for the plain average."""

    def validate(self) -> None:
        """Checks the settings. Not done when they are made, because ns-train reports no error of its parser plainly.

        Raises:
            GenLangSplatError: A setting is out of range.
        """
        if self.robust_rounds < 0:
            raise GenLangSplatError(
                f"Found {self.robust_rounds} robust_rounds; choose 0 for the plain average, or more."
            )
