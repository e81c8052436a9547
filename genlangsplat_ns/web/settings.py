"""Settings of shared pages. This module does not import torch, because every command reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True, kw_only=True)
class ShareSettings:
    """What a shared page contains.

    Raises:
        GenLangSplatError: A number is out of range.
    """

    max_gaussians: int | None = None
    """Keep only this many Gaussians, those with the largest opacity times size; None keeps all."""
    sh_degree: int = 1
    """Highest degree of the spherical harmonics to keep, from 0 to 3. They change the colors with the view; each
    Gaussian takes 9 bytes for degree 1, 24 for 2 and 45 for 3, and 20 for everything else, before compression."""
    photographs: bool = False
    """Also write small pictures of the photographs, to jump to. Whoever gets the page sees them."""

    def __post_init__(self) -> None:
        if self.max_gaussians is not None and self.max_gaussians < 1:
            raise GenLangSplatError(f"Found a maximum of {self.max_gaussians} Gaussians; give at least 1.")
        if not 0 <= self.sh_degree <= 3:
            raise GenLangSplatError(f"Found the degree {self.sh_degree} of the harmonics; choose one from 0 to 3.")
