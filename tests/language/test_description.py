"""Gaussians are grouped by meaning, and each group is described by the nearest texts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.description import describe_gaussians
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery

THINGS = torch.eye(6)[:4]
VOCABULARY = EmbeddedQuery(TextQuery(("fox", "cat", "wall", "moon"), negatives=("stuff",)), THINGS, torch.eye(6)[5:])


def identity(latents: torch.Tensor) -> torch.Tensor:
    """A decoder for latents that are embeddings."""
    return latents


def scene() -> torch.Tensor:
    """Sixty Gaussians of a fox, thirty of a wall, and ten with zero latents."""
    rows = torch.cat([THINGS[:1].repeat(60, 1), THINGS[2:3].repeat(30, 1)])
    noise = 0.05 * torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
    return torch.cat([F.normalize(rows + noise, dim=-1), torch.zeros(10, 6)])


def test_groups_and_their_texts_are_sorted() -> None:
    groups = describe_gaussians(scene(), torch.ones(100), identity, VOCABULARY, 2, 2)
    assert [int(group.members.sum()) for group in groups] == [60, 30]
    assert [group.texts[0] for group in groups] == [0, 2]
    assert all(len(group.texts) == 2 and group.scores[0] > group.scores[1] for group in groups)
    assert not any(group.members[90:].any() for group in groups)


def test_groups_are_sorted_by_opacity() -> None:
    opacities = torch.cat([torch.full((60,), 0.1), torch.ones(40)])
    groups = describe_gaussians(scene(), opacities, identity, VOCABULARY, 2, 9)
    assert [int(group.members.sum()) for group in groups] == [30, 60]
    assert len(groups[0].texts) == 4, "there are no more texts than the vocabulary has"


def test_invalid_input_is_refused() -> None:
    with pytest.raises(GenLangSplatError, match="No Gaussian has a latent"):
        describe_gaussians(torch.zeros(5, 6), torch.ones(5), identity, VOCABULARY, 2, 2)
    with pytest.raises(GenLangSplatError, match="at least 1"):
        describe_gaussians(scene(), torch.ones(100), identity, VOCABULARY, 0, 2)
