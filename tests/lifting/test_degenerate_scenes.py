"""Scenes at the edge of what there can be: one Gaussian, one view, one pixel, and regions that all look alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.features.store import FeatureStore, ViewFeatures
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.language.memory import MemoryDecoder, SceneMemory
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions
from genlangsplat_ns.lifting.region_views import PosedView, RegionViews
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.rasterization import Gaussians, View
from tests.lifting.stored_views import IDENTITY


def tiny_views(folder: Path, gaussians: int, views: int, side: int, alike: bool = False) -> RegionViews:
    """Large Gaussians in front of a camera; each level of a view has at most two regions."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(gaussians, 3, generator=generator) * (0.2 if gaussians > 1 else 0.0)
    quats = F.normalize(torch.randn(gaussians, 4, generator=generator), dim=1)
    scene = Gaussians(means, quats, torch.full((gaussians, 3), 0.5), torch.full((gaussians,), 0.8))
    store, posed = FeatureStore.open(folder, IDENTITY), []
    parts = min(2, side)
    for number in range(views):
        rows = (torch.arange(side) * parts // side)[:, None].expand(side, side)
        regions = torch.stack([rows + parts * level for level in range(3)]).int()
        embeddings = F.normalize(torch.randn(3 * parts, 12, generator=generator), dim=1)
        if alike:
            embeddings = F.normalize(torch.ones(3 * parts, 12), dim=1)
        store.save(f"view-{number}", ViewFeatures(regions, embeddings))
        pose = torch.eye(4)
        pose[2, 3] = 3.0 + 0.1 * number
        camera = torch.tensor([[side, 0, side / 2], [0, side, side / 2], [0, 0, 1.0]])
        posed.append(PosedView(f"{number}.png", f"view-{number}", View(pose, camera, side, side)))
    torch.manual_seed(0)
    autoencoder = Autoencoder(AutoencoderIdentity("tiny", "tiny/1", embedding_dim=12, latent_dim=4))
    return RegionViews(scene, "classic", posed, store, autoencoder.eval().requires_grad_(False))


def lifted_with_memory(views: RegionViews) -> tuple[LiftedLatents, SceneMemory]:
    shape = len(views.gaussians), 3, 4
    lifted = lift_latents(views, *shape, LiftSettings(), small_views=views.small(), with_consensus=True)
    assert lifted.region_consensus is not None
    names = [view.name for view in views.views]
    return lifted, fit_memory(
        MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights, names), "tiny/1"
    )


@pytest.mark.parametrize(
    ("gaussians", "views", "side"),
    [(1, 3, 16), (20, 1, 16), (20, 3, 1), (1, 1, 1)],
    ids=["one Gaussian", "one view", "one pixel", "one of each"],
)
def test_the_smallest_scenes_are_lifted_and_decoded(tmp_path: Path, gaussians: int, views: int, side: int) -> None:
    views_of_scene = tiny_views(tmp_path, gaussians, views, side)
    lifted, memory = lifted_with_memory(views_of_scene)
    assert bool(lifted.seen.any())
    norms = lifted.latents[lifted.seen].norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    decoded = MemoryDecoder(memory, views_of_scene.autoencoder.decode)(lifted.latents[lifted.seen])
    assert bool(decoded.isfinite().all()) and decoded.shape[-1] == 12


def test_regions_that_all_look_alike_are_lifted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lifted, memory = lifted_with_memory(tiny_views(tmp_path, 20, 3, 16, alike=True))
    assert bool(lifted.seen.any()) and bool(lifted.latents.isfinite().all())
    assert len(memory) == 1
    assert "embeddings of all 18 regions are the same" in caplog.text


def test_regions_that_differ_are_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lifted_with_memory(tiny_views(tmp_path, 20, 3, 16))
    assert "are the same" not in caplog.text
