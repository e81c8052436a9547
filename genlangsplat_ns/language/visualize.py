"""Images of relevancy and of latents."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.decoding import has_latent

MAX_FIT_ROWS = 100_000
"""Approximate maximum number of latents to which principal directions are fitted."""

HUE_STEP = 0.618034
"""Step between consecutive hues, the golden ratio, which gives neighboring numbers distinct colors."""


@cache
def _turbo() -> Tensor:
    """Returns the 256 colors of the turbo color map, (256, 3)."""
    # Importing Matplotlib takes most of a second.
    import matplotlib

    return torch.tensor(matplotlib.colormaps["turbo"](range(256))[:, :3], dtype=torch.float32)


def relevancy_colors(relevancy: Float[Tensor, "*pixels"]) -> Float[Tensor, "*pixels 3"]:
    """Maps relevancy to turbo colors on the fixed scale 0.5 to 1, so that a color means the same in every image."""
    index = ((relevancy - 0.5) * 2 * 255).round().clamp(0, 255).long()
    return _turbo().to(relevancy)[index]


def relevancy_overlay(
    rgb: Float[Tensor, "height width 3"], relevancy: Float[Tensor, "height width"]
) -> Float[Tensor, "height width 3"]:
    """Overlays relevancy on an image: dark gray up to 0.5, where a negative scores higher, and turbo colors above."""
    # One matrix product computes half of (0.4 image + 0.6 gray).
    overlay = rgb @ (0.2 * torch.eye(3).to(rgb) + 0.1)
    # Few pixels are above 0.5, so colors are computed only there.
    relevant = (relevancy > 0.5).nonzero(as_tuple=True)
    scores = relevancy[relevant]
    # The color fades in over the first fifth of the scale, so that there is no hard edge at 0.5.
    strength = ((scores - 0.5) / 0.1).clamp_(0, 1).mul_(0.72)[:, None]
    overlay[relevant] = torch.lerp(overlay[relevant], relevancy_colors(scores), strength)
    return overlay.clamp_(0, 1)


def soft_mask(
    relevancy: Float[Tensor, "height width 1"], threshold: float, softness: float
) -> Float[Tensor, "height width 1"]:
    """Computes a mask that is 1 above a relevancy threshold and 0 below, with a linear ramp in between.

    `softness` is the width of the ramp in relevancy, 0 for a hard edge. Pixels that score 0 are never selected.
    """
    if softness <= 0:
        return (relevancy > threshold).to(relevancy)
    return ((relevancy - threshold) / softness + 0.5).clamp(0, 1) * (relevancy > 0)


def highlight(
    rgb: Float[Tensor, "height width 3"], mask: Float[Tensor, "height width 1"]
) -> Float[Tensor, "height width 3"]:
    """Shows pixels inside a mask in color and the others in dark gray."""
    # The gray is 0.1 + 0.3 * mean channel; a matrix product over three channels is faster than a reduction.
    gray = (rgb @ rgb.new_full((3, 1), 0.1)).add_(0.1)
    return torch.lerp(gray.expand_as(rgb), rgb, mask.expand_as(rgb))


@dataclass(frozen=True, eq=False)
class LatentPca:
    """Three principal directions of a scene's latents, fitted once so that a color means the same in every view.

    Attributes:
        mean: Mean of the fitted unit latents.
        basis: The directions as columns; zero columns if the latents have fewer than three dimensions.
        low: Projection that maps to color value 0, per direction.
        high: Projection that maps to color value 1, per direction.
    """

    mean: Float[Tensor, " latent_dim"]
    basis: Float[Tensor, "latent_dim 3"]
    low: Float[Tensor, " 3"]
    high: Float[Tensor, " 3"]

    @classmethod
    def fit(cls, latents: Float[Tensor, "count latent_dim"]) -> LatentPca:
        """Fits the directions to latents of any length; zero latents are ignored and large sets are subsampled evenly.

        Raises:
            GenLangSplatError: Every latent is zero.
        """
        filled = latents[has_latent(latents)].float()
        if filled.shape[0] == 0:
            raise GenLangSplatError("Found only zero latents; run the language phase before coloring by latents.")
        unit = F.normalize(filled[:: 1 + filled.shape[0] // MAX_FIT_ROWS], dim=-1)
        mean = unit.mean(dim=0)
        centered = unit - mean
        _, directions = torch.linalg.eigh(centered.T @ centered)
        basis = directions.flip(-1)[:, :3]
        # The sign of an eigenvector is arbitrary and differs between machines, so its largest entry is made positive.
        largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
        basis = F.pad(basis * largest.sign(), (0, 3 - basis.shape[1]))
        projected = (centered @ basis).sort(dim=0).values
        low, high = projected[int(0.01 * (len(projected) - 1))], projected[round(0.99 * (len(projected) - 1))]
        return cls(mean=mean, basis=basis, low=low, high=high)

    def apply(self, latents: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch 3"]:
        """Maps latents to colors, 0 to 1; zero latents are black."""
        mean, basis, low, high = (tensor.to(latents) for tensor in (self.mean, self.basis, self.low, self.high))
        projected = (F.normalize(latents, dim=-1) - mean) @ basis
        colors = ((projected - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        return colors * has_latent(latents)[..., None]


def distinct_colors(count: int) -> NDArray[np.uint8]:
    """Returns colors, (count, 3); consecutive ones differ clearly, and the first ones do not depend on the count."""
    hues = np.arange(count) * HUE_STEP % 1.0
    # Three rounds of saturation and brightness separate colors whose hues are close.
    levels = ((0.85, 1.0), (0.55, 0.85), (0.95, 0.65))
    colors = [colorsys.hsv_to_rgb(hue, *levels[number // 12 % 3]) for number, hue in enumerate(hues)]
    return (np.array(colors).reshape(-1, 3) * 255).round().astype(np.uint8)
