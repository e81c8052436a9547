"""Random synthetic embeddings of the embedded encoder.

An autoencoder only reconstructs embeddings well that its training set covers. A ConSE embedding is a function of the
classifier's logits, so sampling plausible logits covers the possible embeddings without any images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.features.conse import ConSEEncoder, mix_classes


@dataclass(frozen=True)
class MixtureSettings:
    """Distribution of the logits of a synthetic region.

    The defaults follow the classifier's logits for regions of photographs, such as those of scikit-image. There the
    standard deviation over the classes is 0.3 (walls, cloth, blur) to 2.3 (a known object), the maximum is only 4 to 5
    standard deviations above the mean, and the top 30 classes are so similar that the mean of their embeddings has a
    norm of 0.2 to 0.4 (0.15 for 30 random classes). So a region is rarely a single class: it is a mixture of many,
    often through broad groups of similar classes.
    """

    max_anchors: int = 32
    """Maximum number of anchor classes of a region (log-uniform from 1), which have random weights."""
    strength: tuple[float, float] = (0.3, 2.2)
    """Minimum and maximum standard deviation of the logits, log-uniform."""
    noise: tuple[float, float] = (0.05, 0.4)
    """Minimum and maximum fraction of noise, log-uniform."""
    broadness: float = 10.0
    """Exponent of the uniform random weight of an anchor class itself, compared to its broad group of similar classes.
    Higher exponents give broader mixtures."""


class MixtureSampler:
    """Samples embeddings. Each call returns new ones; the same seed gives the same sequence.

    The embeddings of the class names are centered. Weight and bias are those of the classifier's last layer, where
    similar classes have similar rows.
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
        similarity = rows @ rows.T
        # The squared similarity keeps what large groups of classes have in common.
        self._signals = torch.cat([_unit_spread(similarity), _unit_spread(similarity @ similarity)])
        # Noise in the features gives logit noise that is correlated between similar classes. The product is slow, so a
        # bank of noise is computed once, and random pairs from it are combined.
        features = torch.randn(self.NOISE_BANK, rows.shape[1], generator=self._generator)
        self._noise = _unit_spread(features @ rows.T)

    @classmethod
    def from_encoder(cls, encoder: ConSEEncoder, seed: int, settings: MixtureSettings | None = None) -> MixtureSampler:
        """Creates the sampler of an encoder's embeddings."""
        head = encoder.classifier.head
        return cls(encoder.class_embeddings, head.weight.cpu(), head.bias.cpu(), seed, settings)

    def __call__(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        """Samples `count` unit embeddings."""
        return mix_classes(self.logits(count), self._class_embeddings)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the state of the sequence for `load_state_dict`."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continues the sequence of another sampler of the same classes and settings."""
        self._generator.set_state(state["generator"])

    def logits(self, count: int) -> Float[Tensor, "count num_classes"]:
        """Samples the logits of `count` synthetic regions."""
        noise = self._log_uniform(count, self._settings.noise)
        strength = self._log_uniform(count, self._settings.strength)
        return strength * (self._draw_signals(count) + noise * self._draw_noise(count)) + self._bias

    def _draw_signals(self, count: int) -> Float[Tensor, "count num_classes"]:
        """Sums the contributions of each region's anchors; anchors of all regions are in flat lists."""
        limit, num_classes = self._settings.max_anchors, len(self._bias)
        anchor_counts = self._log_uniform(count, (1.0, limit + 1.0)).long().clamp(max=limit).flatten()
        anchors = self._integers(num_classes, (int(anchor_counts.sum()),))
        # A weight of zero would give a region with one anchor no logits.
        weights = torch.rand(len(anchors), generator=self._generator) + 1e-3
        direct = torch.rand(count, generator=self._generator).pow(self._settings.broadness)
        direct = direct.repeat_interleave(anchor_counts)
        signals = F.embedding_bag(
            torch.stack([anchors, anchors + num_classes], dim=1).flatten(),
            self._signals,
            offsets=2 * (anchor_counts.cumsum(dim=0) - anchor_counts),
            per_sample_weights=torch.stack([weights * direct, weights * (1 - direct)], dim=1).flatten(),
            mode="sum",
        )
        return _unit_spread(signals)

    def _draw_noise(self, count: int) -> Float[Tensor, "count num_classes"]:
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
