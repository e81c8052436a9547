"""Describes a scene with the words of a vocabulary: groups its Gaussians by meaning and names each group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.decoding import Decode, has_latent
from genlangsplat_ns.language.query import EmbeddedQuery


@dataclass(frozen=True, eq=False)
class SceneGroup:
    """A group of Gaussians with similar meaning.

    Attributes:
        members: Mask of the Gaussians in the group.
        texts: Indices of the texts that describe the group, best first.
        scores: Relevancy of these texts to the mean of the group.
    """

    members: Bool[Tensor, " num_gaussians"]
    texts: list[int]
    scores: list[float]


@torch.no_grad()
def describe_gaussians(
    latents: Float[Tensor, "num_gaussians latent_dim"],
    opacities: Float[Tensor, " num_gaussians"],
    decode: Decode,
    vocabulary: EmbeddedQuery,
    num_groups: int,
    num_texts: int,
) -> list[SceneGroup]:
    """Groups Gaussians by k-means on the latents of one level, and describes each group by texts of a vocabulary.

    Gaussians are weighted by their opacities; those with near-zero latents belong to no group. There are at most
    `num_groups` groups, by descending sum of opacities, with `num_texts` texts each.

    Raises:
        GenLangSplatError: A number is not positive, or no Gaussian has a latent.
    """
    # Importing scikit-learn takes a second.
    from sklearn.cluster import MiniBatchKMeans

    if num_groups < 1 or num_texts < 1:
        raise GenLangSplatError(
            f"Found {num_groups} groups with {num_texts} texts each; both must be at least 1. Raise them."
        )
    filled = has_latent(latents)
    if not bool(filled.any()):
        raise GenLangSplatError("No Gaussian has a latent at this level. Choose another level, or lift the run again.")
    unit = F.normalize(latents[filled], dim=-1).cpu()
    means = MiniBatchKMeans(min(num_groups, len(unit)), random_state=0, n_init=3, batch_size=4096)
    labels = torch.from_numpy(means.fit_predict(unit.numpy(), sample_weight=opacities[filled].cpu().numpy()))
    centers = torch.from_numpy(means.cluster_centers_).to(latents)
    scores = vocabulary.score(F.normalize(decode(F.normalize(centers, dim=-1)), dim=-1)).cpu()
    groups = []
    for group in labels.unique().tolist():
        members = torch.zeros(len(latents), dtype=torch.bool)
        members[filled.cpu()] = labels == group
        best = scores[group].topk(min(num_texts, scores.shape[1]))
        groups.append(SceneGroup(members, best.indices.tolist(), best.values.tolist()))
    weights = opacities.cpu()
    return sorted(groups, key=lambda group: -float(weights[group.members].sum()))
