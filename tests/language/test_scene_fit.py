"""An autoencoder of one scene: better than its principal components, repeatable, and honest about what it is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.scene_fit import fit_autoencoder


def curved(count: int, seed: int) -> torch.Tensor:
    """Unit vectors on a curved sheet of three dimensions in twenty-four."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, 24, generator=torch.Generator().manual_seed(99))
    return F.normalize(torch.sin(2 * torch.randn(count, 3, generator=generator) @ weights), dim=-1)


def test_it_keeps_more_than_as_many_principal_components() -> None:
    autoencoder = fit_autoencoder(curved(2000, 0), "encoder/1", latent_dim=4)
    unseen, fitted_on = curved(500, 1), curved(2000, 0)
    basis = torch.linalg.eigh(fitted_on.T @ fitted_on)[1][:, -4:]
    components = F.cosine_similarity(unseen @ basis @ basis.T, unseen, dim=-1).mean()
    assert F.cosine_similarity(autoencoder(unseen), unseen, dim=-1).mean() > components + 0.05
    assert autoencoder.identity.encoder == "encoder/1" and "one scene" in autoencoder.identity.training_data
    assert not autoencoder.training and not any(p.requires_grad for p in autoencoder.parameters())


def test_too_few_regions_are_refused() -> None:
    with pytest.raises(GenLangSplatError, match=r"9 regions.*16 latents"):
        fit_autoencoder(curved(9, 0), "encoder/1")
