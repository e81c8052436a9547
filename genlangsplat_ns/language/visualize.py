"""Pictures of relevancy and of latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.latents import has_latent

MAX_FIT_ROWS = 100_000


@cache
def _turbo() -> Tensor:
    """The 256 colors of the turbo map, (256, 3)."""
    # Matplotlib takes most of a second to import and only pictures need it.
    import matplotlib

    return torch.tensor(matplotlib.colormaps["turbo"](range(256))[:, :3], dtype=torch.float32)


def relevancy_colors(relevancy: Float[Tensor, "*pixels"]) -> Float[Tensor, "*pixels 3"]:
    """Turbo colors of relevancy on the fixed scale 0.5 to 1: the same color means the same score in every picture."""
    index = ((relevancy - 0.5) * 2 * 255).round().clamp(0, 255).long()
    return _turbo().to(relevancy)[index]


def relevancy_overlay(
    rgb: Float[Tensor, "height width 3"], relevancy: Float[Tensor, "height width"]
) -> Float[Tensor, "height width 3"]:
    """Lays relevancy over a picture: dimmed and grayed where a negative wins (up to 0.5), turbo colors above.

    Args:
        rgb: The picture, 0 to 1.
        relevancy: Relevancy of every pixel, 0 to 1.
    """
    # Half of 0.4 of the picture and 0.6 of its gray, as one product.
    picture = rgb @ (0.2 * torch.eye(3).to(rgb) + 0.1)
    # Most of a picture is quiet, so colors are only looked up where there are some.
    loud = (relevancy > 0.5).nonzero(as_tuple=True)
    scores = relevancy[loud]
    # The color fades in over the first fifth of the scale, so that there is no hard edge at 0.5.
    strength = ((scores - 0.5) / 0.1).clamp_(0, 1).mul_(0.72)[:, None]
    picture[loud] = torch.lerp(picture[loud], relevancy_colors(scores), strength)
    return picture.clamp_(0, 1)


def soft_mask(
    relevancy: Float[Tensor, "height width 1"], threshold: float, softness: float
) -> Float[Tensor, "height width 1"]:
    """One where relevancy is above a threshold and zero below, with a ramp of a given width between.

    Args:
        relevancy: Relevancy of every pixel, 0 to 1; what scores 0 is never selected.
        threshold: The middle of the ramp.
        softness: The width of the ramp in relevancy; 0 for a hard edge.
    """
    if softness <= 0:
        return (relevancy > threshold).to(relevancy)
    return ((relevancy - threshold) / softness + 0.5).clamp(0, 1) * (relevancy > 0)


def highlight(
    rgb: Float[Tensor, "height width 3"], mask: Float[Tensor, "height width 1"]
) -> Float[Tensor, "height width 3"]:
    """Shows what a mask holds in its colors and the rest in faint gray."""
    # Faint gray is 0.3 of the mean channel over 0.1; a product takes means over three faster than a reduction.
    faint = (rgb @ rgb.new_full((3, 1), 0.1)).add_(0.1)
    return torch.lerp(faint.expand_as(rgb), rgb, mask.expand_as(rgb))


@dataclass(frozen=True, eq=False)
class LatentPca:
    """Three principal directions of a scene's latents, fitted once so that a color means the same in every view.

    Attributes:
        mean: Mean of the fitted unit latents.
        basis: The directions as columns; directions that the latents do not have are zero.
        low: Projection that is shown as 0, per direction.
        high: Projection that is shown as 1.
    """

    mean: Float[Tensor, " latent_dim"]
    basis: Float[Tensor, "latent_dim 3"]
    low: Float[Tensor, " 3"]
    high: Float[Tensor, " 3"]

    @classmethod
    def fit(cls, latents: Float[Tensor, "count latent_dim"]) -> LatentPca:
        """Fits the directions to latents of any length; zero rows are left out, large sets are thinned evenly.

        Raises:
            GenLangSplatError: If every latent is zero.
        """
        filled = latents[has_latent(latents)].float()
        if filled.shape[0] == 0:
            raise GenLangSplatError("Found only zero latents; run the language phase before coloring by latents.")
        unit = F.normalize(filled[:: 1 + filled.shape[0] // MAX_FIT_ROWS], dim=-1)
        mean = unit.mean(dim=0)
        centered = unit - mean
        _, directions = torch.linalg.eigh(centered.T @ centered)
        basis = directions.flip(-1)[:, :3]
        # An eigenvector's sign is arbitrary and differs between machines; its largest entry is made positive.
        largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
        basis = F.pad(basis * largest.sign(), (0, 3 - basis.shape[1]))
        projected = (centered @ basis).sort(dim=0).values
        low, high = projected[int(0.01 * (len(projected) - 1))], projected[round(0.99 * (len(projected) - 1))]
        return cls(mean=mean, basis=basis, low=low, high=high)

    def apply(self, latents: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch 3"]:
        """Colors of latents, 0 to 1; zero latents are black."""
        pca = [part.to(latents) for part in (self.mean, self.basis, self.low, self.high)]
        mean, basis, low, high = pca
        projected = (F.normalize(latents, dim=-1) - mean) @ basis
        colors = ((projected - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        return colors * has_latent(latents)[..., None]
