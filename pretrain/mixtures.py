"""Synthetic embeddings without end: what the embedded encoder could say of a region, drawn at random.

An autoencoder is only faithful to what its training set covered. A ConSE embedding is a function of the classifier's
logits, so drawing plausible logits covers whatever the encoder may say, without a single image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.features.conse import mix_classes
from genlangsplat_ns.features.encoders import ConSEEncoder


@dataclass(frozen=True)
class MixtureSettings:
    """What the logits of a made-up region are like.

    The defaults follow what the classifier says of regions of photographs, such as those that come with scikit-image.
    There the logits spread over the classes with a standard deviation of 0.3 (walls, cloth, blur) to 2.3 (an object it
    knows); the greatest stands only 4 to 5 deviations above the mean; and the best 30 classes are so alike that the
    mean of their embeddings keeps a length of 0.2 to 0.4 (of 30 classes drawn blindly: 0.15). So a region is seldom one
    class: it hints at many at once, through broad kinship rather than through a class itself.

    Attributes:
        max_anchors: A region hints at one to this many classes, log-uniform, with random shares.
        strength: Least and greatest standard deviation of the logits, log-uniform.
        noise: Least and greatest part of that which is noise, log-uniform.
        broadness: Exponent of the uniform number that says how much a hint is at the class itself, instead of at its
            broad kin; high exponents make mostly broad hints.
    """

    max_anchors: int = 32
    strength: tuple[float, float] = (0.3, 2.2)
    noise: tuple[float, float] = (0.05, 0.4)
    broadness: float = 10.0


class MixtureSampler:
    """Draws embeddings; calling it again gives new ones, and the same seed gives the same sequence.

    Args:
        class_embeddings: Centered embeddings of the class names.
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
        kinship = rows @ rows.T
        # Kin of kin: the square keeps what large families of classes have in common and forgets the single class.
        self._hints = torch.cat([_unit_spread(kinship), _unit_spread(kinship @ kinship)])
        # Noise in the features makes noise in the logits that respects which classes look alike. The product is slow,
        # so a bank of it is made once, and pairs from the bank are combined.
        features = torch.randn(self.NOISE_BANK, rows.shape[1], generator=self._generator)
        self._noise = _unit_spread(features @ rows.T)

    @classmethod
    def from_encoder(cls, encoder: ConSEEncoder, seed: int, settings: MixtureSettings | None = None) -> MixtureSampler:
        """Makes the sampler of an encoder's embeddings."""
        return cls(
            encoder.class_embeddings, encoder.classifier.head_weight, encoder.classifier.head_bias, seed, settings
        )

    def __call__(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        """Draws `count` unit embeddings."""
        return mix_classes(self.logits(count), self._class_embeddings)

    def state_dict(self) -> dict[str, Tensor]:
        """Gives what `load_state_dict` needs to go on with the sequence."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on where another sampler of the same classes and settings stood."""
        self._generator.set_state(state["generator"])

    def logits(self, count: int) -> Float[Tensor, "count num_classes"]:
        """Draws the logits of `count` made-up regions."""
        noise = self._log_uniform(count, self._settings.noise)
        strength = self._log_uniform(count, self._settings.strength)
        return strength * (self._draw_hints(count) + noise * self._draw_noise(count)) + self._bias

    def _draw_hints(self, count: int) -> Float[Tensor, "count num_classes"]:
        """Sums the hints of each region's anchors; the regions lie behind one another in flat lists of anchors."""
        limit, num_classes = self._settings.max_anchors, len(self._bias)
        anchor_counts = self._log_uniform(count, (1.0, limit + 1.0)).long().clamp(max=limit).flatten()
        anchors = self._integers(num_classes, (int(anchor_counts.sum()),))
        # Shares of exactly zero would leave a region with one anchor empty.
        shares = torch.rand(len(anchors), generator=self._generator) + 1e-3
        direct = torch.rand(count, generator=self._generator).pow(self._settings.broadness)
        direct = direct.repeat_interleave(anchor_counts)
        hints = F.embedding_bag(
            torch.stack([anchors, anchors + num_classes], dim=1).flatten(),
            self._hints,
            offsets=2 * (anchor_counts.cumsum(dim=0) - anchor_counts),
            per_sample_weights=torch.stack([shares * direct, shares * (1 - direct)], dim=1).flatten(),
            mode="sum",
        )
        return _unit_spread(hints)

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
