"""Synthetic embeddings without end: what the embedded encoder could say of a region, drawn at random.

An autoencoder is only faithful to what its training set covered. A ConSE embedding is a function of the classifier's
logits, so drawing plausible logits covers whatever the encoder may say, without a single image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.features.conse import mix_classes
from genlangsplat_ns.features.encoders import ConSEEncoder


@dataclass(frozen=True)
class MixtureSettings:
    """What the logits of a made-up region are like; all strengths are standard deviations over the classes.

    The classifier's logits on regions of photographs spread by 0.3 (walls, cloth, blur) to 2.3 (an object it knows),
    and the strengths cover that range at both ends.

    Attributes:
        max_anchors: A region shows one to this many classes, with random shares.
        anchor_strength: Least and greatest strength of what it shows, log-uniform.
        noise_strength: Least and greatest strength of what it does not show, log-uniform.
    """

    max_anchors: int = 3
    anchor_strength: tuple[float, float] = (0.1, 2.6)
    noise_strength: tuple[float, float] = (0.15, 1.2)


class MixtureSampler:
    """Draws embeddings; calling it again gives new ones, and the same seed gives the same sequence.

    Args:
        class_embeddings: Centred embeddings of the class names.
        head_weight: Weight rows of the classifier's last layer; like classes have like rows, so they say which other
            classes the classifier sees where it sees one.
        head_bias: Its bias.
        seed: Seeds the sequence.
        settings: What to draw.
    """

    NOISE_BANK = 8192

    def __init__(
        self,
        class_embeddings: Float[Tensor, "num_classes embedding_dim"],
        head_weight: Float[Tensor, "num_classes num_features"],
        head_bias: Float[Tensor, " num_classes"],
        seed: int,
        settings: MixtureSettings | None = None,
    ) -> None:
        self._settings = settings or MixtureSettings()
        self._class_embeddings = class_embeddings
        self._bias = head_bias
        self._generator = torch.Generator().manual_seed(seed)
        rows = head_weight - head_weight.mean(dim=0)
        self._similarities = _unit_spread(rows @ rows.T)
        # Noise in the features makes noise in the logits that respects which classes look alike. The product is slow,
        # so a bank of it is made once, and pairs from the bank are combined.
        features = torch.randn(self.NOISE_BANK, rows.shape[1], generator=self._generator)
        self._noise = _unit_spread(features @ rows.T)

    @classmethod
    def of_encoder(cls, encoder: ConSEEncoder, seed: int, settings: MixtureSettings | None = None) -> MixtureSampler:
        """Makes the sampler of an encoder's embeddings."""
        return cls(encoder.class_embeddings, encoder.head_weight, encoder.head_bias, seed, settings)

    def __call__(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        """Draws `count` unit embeddings."""
        return mix_classes(self.logits(count), self._class_embeddings)

    def logits(self, count: int) -> Float[Tensor, "count num_classes"]:
        """Draws the logits of `count` made-up regions."""
        settings = self._settings
        return (
            self._log_uniform(count, settings.anchor_strength) * self._shown(count)
            + self._log_uniform(count, settings.noise_strength) * self._not_shown(count)
            + self._bias
        )

    def _shown(self, count: int) -> Float[Tensor, "count num_classes"]:
        limit = self._settings.max_anchors
        anchors = self._integers(len(self._similarities), (count, limit))
        # Squared uniform shares let one anchor lead more often than three agree.
        shares = torch.rand(count, limit, generator=self._generator).square()
        shares = shares * (torch.arange(limit) <= self._integers(limit, (count, 1)))
        return _unit_spread((shares[..., None] * self._similarities[anchors]).sum(dim=1))

    def _not_shown(self, count: int) -> Float[Tensor, "count num_classes"]:
        angles = torch.rand(count, 1, generator=self._generator) * (2 * math.pi)
        first, second = (self._noise[self._integers(self.NOISE_BANK, (count,))] for _ in range(2))
        return torch.cos(angles) * first + torch.sin(angles) * second

    def _integers(self, limit: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(limit, shape, generator=self._generator)

    def _log_uniform(self, count: int, limits: tuple[float, float]) -> Float[Tensor, "count 1"]:
        low, high = (math.log(limit) for limit in limits)
        return torch.exp(low + (high - low) * torch.rand(count, 1, generator=self._generator))


def _unit_spread(rows: Float[Tensor, "count num_classes"]) -> Float[Tensor, "count num_classes"]:
    return rows / rows.std(dim=-1, keepdim=True).clamp(min=1e-8)
