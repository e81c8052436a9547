"""Fitting a memory: consensus latents become its keys, mean embeddings its values."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.memory import MemoryDecoder, SceneMemory
from genlangsplat_ns.lifting import kmeans, memory_fit, robust
from genlangsplat_ns.lifting.kmeans import nearest_keys, spherical_kmeans
from genlangsplat_ns.lifting.memory_fit import fit_memory, make_keys
from genlangsplat_ns.lifting.memory_regions import (
    AGREEMENT_POWER,
    MIN_AGREEMENT,
    REGION_WEIGHT_POWER,
    MemoryRegions,
    collect_regions,
)
from genlangsplat_ns.lifting.residuals import composite_latents
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from tests.language.memory_fakes import unit_rows
from tests.lifting.view_fakes import (
    GAUSSIANS,
    HEIGHT,
    LATENT_DIM,
    LEVELS,
    WIDTH,
    DenseWeights,
    labeled_scene,
    make_view,
    with_embeddings,
)

EMBEDDING_DIM = 32
ENCODE = torch.linalg.qr(torch.randn(EMBEDDING_DIM, 8, generator=torch.Generator().manual_seed(0)))[0]


def encode(embeddings: Tensor) -> Tensor:
    """A projection to 8 numbers."""
    return F.normalize(embeddings @ ENCODE, dim=-1)


def noisy(vectors: Tensor, noise: float, seed: int) -> Tensor:
    """Unit vectors with noise of that length."""
    return F.normalize(vectors + noise * unit_rows(len(vectors), vectors.shape[1], seed), dim=-1)


def regions_of(kinds: Tensor, truth: Tensor, area: float = 100.0, noise: float = 0.6, seed: int = 1) -> MemoryRegions:
    """Regions of the given kinds in ten views, with noisy embeddings and hardly noisy latents."""
    embeddings = noisy(truth[kinds], noise, seed)
    consensus = noisy(encode(truth[kinds]), 0.1, seed + 1)
    samples = 0.7 * noisy(consensus, 0.1, seed + 2)
    areas, reliabilities = torch.full((len(kinds),), area), torch.ones(len(kinds))
    return MemoryRegions(consensus, embeddings, samples, areas, reliabilities, torch.arange(len(kinds)) % 10)


def together(*parts: MemoryRegions) -> MemoryRegions:
    """The regions of several scenes as those of one."""
    names = MemoryRegions.__dataclass_fields__
    return MemoryRegions(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def decode(memory: SceneMemory, latents: Tensor) -> Tensor:
    """Decodes by the memory, with a constant prior."""
    return MemoryDecoder(memory, lambda rows: torch.eye(EMBEDDING_DIM)[:1].expand(len(rows), -1))(latents)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    return F.cosine_similarity(first, second, dim=-1)


# Collecting regions


def collect_one_by_one(view, latents: Tensor, region_weights: Tensor) -> dict[str, Tensor]:
    """Readable reference of `collect_regions`: consensus, area and reliability of each region of a view."""
    consensus, reliabilities = torch.zeros(len(view.latents), LATENT_DIM), torch.zeros(len(view.latents))
    areas = torch.zeros(len(view.latents))
    for region, own in enumerate(view.latents):
        total = torch.zeros(LATENT_DIM)
        for level, y, x in product(range(LEVELS), range(HEIGHT), range(WIDTH)):
            if view.regions[level, y, x] == region:
                rendered = view.operator.matrix[y * WIDTH + x] @ latents[:, level]
                total += rendered
                areas[region] += bool(rendered.norm() > 0)
        if total.any():
            consensus[region] = total / total.norm()
        agreement = max(float(consensus[region] @ own), MIN_AGREEMENT)
        reliabilities[region] = region_weights[region] ** REGION_WEIGHT_POWER * agreement**AGREEMENT_POWER
    return {"consensus": consensus, "areas": areas, "reliabilities": reliabilities}


def some_views(count: int) -> list:
    return [with_embeddings(make_view(seed), seed) for seed in range(count)]


def test_collected_regions_have_consensus_area_and_reliability() -> None:
    views = some_views(3)
    latents = unit_rows(GAUSSIANS * LEVELS, LATENT_DIM, 4).view(GAUSSIANS, LEVELS, LATENT_DIM)
    region_weights = [torch.rand(len(view.latents), generator=torch.Generator().manual_seed(8)) for view in views]
    seen = collect_regions(views, latents, region_weights)
    twins = [collect_one_by_one(view, latents, some) for view, some in zip(views, region_weights, strict=True)]
    for name in ("consensus", "areas", "reliabilities"):
        expected = torch.cat([twin[name] for twin in twins])
        torch.testing.assert_close(getattr(seen, name), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(seen.weights(False), seen.areas)
    torch.testing.assert_close(seen.weights(True), seen.areas * seen.reliabilities)
    expected = torch.cat([view.embeddings for view in views])
    torch.testing.assert_close(seen.embeddings.float(), expected, atol=1e-3, rtol=0)
    assert seen.views.tolist() == [number for number, view in enumerate(views) for _ in view.latents]


def test_a_sample_is_the_rendered_latent_of_some_pixel_and_deterministic() -> None:
    views = some_views(3)
    latents = unit_rows(GAUSSIANS * LEVELS, LATENT_DIM, 4).view(GAUSSIANS, LEVELS, LATENT_DIM)
    seen = collect_regions(views, latents, None)
    assert torch.equal(seen.samples, collect_regions(views, latents, None).samples)
    first_ones = 0
    for number, view in enumerate(views):
        rendered = (view.operator.matrix @ latents.flatten(1)).view(HEIGHT, WIDTH, LEVELS, LATENT_DIM)
        for region, sample in enumerate(seen.samples[seen.views == number]):
            pixels = rendered.permute(2, 0, 1, 3)[view.regions == region]
            matches = (pixels - sample).norm(dim=-1) < 1e-5
            assert len(pixels) == 0 or matches.any()
            first_ones += bool(len(pixels) and matches[0])
    assert first_ones < len(seen) // 2, "any pixel may be drawn"


def test_without_region_weights_all_regions_have_weight_one() -> None:
    views = some_views(2)
    latents = unit_rows(GAUSSIANS * LEVELS, LATENT_DIM, 4).view(GAUSSIANS, LEVELS, LATENT_DIM)
    region_weights = [torch.ones(len(view.latents)) for view in views]
    plain, weighted = (collect_regions(views, latents, some).reliabilities for some in (None, region_weights))
    assert torch.equal(plain, weighted)


def test_the_consensus_of_lifting_gives_the_same_regions() -> None:
    views = some_views(4)
    latents = unit_rows(GAUSSIANS * LEVELS, LATENT_DIM, 4).view(GAUSSIANS, LEVELS, LATENT_DIM)
    region_weights = [torch.rand(len(view.latents), generator=torch.Generator().manual_seed(8)) for view in views]
    whole = collect_regions(views, latents, region_weights)
    consensus = [view.consensus(composite_latents(view, latents)) for view in views]
    gathered = MemoryRegions.from_consensus(consensus, region_weights)
    for name in MemoryRegions.__dataclass_fields__:
        assert torch.equal(getattr(gathered, name), getattr(whole, name)), name


def test_regions_without_a_rendered_latent_have_no_area() -> None:
    seen = collect_regions(some_views(1), torch.zeros(GAUSSIANS, LEVELS, LATENT_DIM), None)
    assert not seen.areas.any() and not seen.consensus.any() and seen.reliabilities.isfinite().all()


def test_views_with_missing_or_broken_embeddings_are_named() -> None:
    latents, view = torch.ones(GAUSSIANS, LEVELS, LATENT_DIM), replace(some_views(1)[0], name="the view 7.jpg")
    assert view.embeddings is not None
    with pytest.raises(GenLangSplatError, match=r"7\.jpg have no embeddings"):
        collect_regions([replace(view, embeddings=None)], latents, None)
    broken = view.embeddings.clone()
    broken[2, 1], broken[5, 0] = float("nan"), float("inf")
    with pytest.raises(GenLangSplatError, match=r"2 of the 8 embeddings of the view 7\.jpg hold NaN"):
        collect_regions([replace(view, embeddings=broken)], latents, None)
    with pytest.raises(GenLangSplatError, match="no view"):
        collect_regions([], latents, None)


# Fitting the memory


def test_one_region_gives_one_key() -> None:
    truth = unit_rows(1, EMBEDDING_DIM, 2)
    regions = regions_of(torch.zeros(1).long(), truth)
    memory = fit_memory(regions, "tiny/1")
    assert len(memory) == 1 and memory.encoder == "tiny/1"
    assert cosines(decode(memory, regions.consensus), regions.embeddings).min() > 0.999


def test_fewer_regions_than_keys_get_one_key_each_those_of_left_out_views_too() -> None:
    regions = regions_of(torch.arange(7), unit_rows(7, EMBEDDING_DIM, 2))
    memory = fit_memory(regions, "tiny/1")
    assert len(memory) == 7
    assert cosines(decode(memory, regions.consensus), regions.embeddings).min() > 0.95


def test_regions_that_are_all_alike_make_one_key() -> None:
    regions = regions_of(torch.zeros(1).long(), unit_rows(1, EMBEDDING_DIM, 2))
    memory = fit_memory(regions.select(torch.zeros(30).long()), "tiny/1")
    assert len(memory) == 1 and float(memory.log_masses) == 0


def test_regions_without_a_rendered_latent_are_skipped_and_refused_if_there_are_no_others() -> None:
    shown = regions_of(torch.arange(3).repeat(10), unit_rows(3, EMBEDDING_DIM, 2))
    hidden = replace(shown, areas=torch.zeros(30))
    nowhere = replace(shown, consensus=torch.zeros(30, 8))
    with pytest.raises(GenLangSplatError, match="None of the 60 regions shows"):
        fit_memory(together(hidden, nowhere), "tiny/1")
    alone, among = fit_memory(shown, "tiny/1"), fit_memory(together(shown, hidden, nowhere), "tiny/1")
    assert alone.sha256 == among.sha256


def test_noise_of_many_regions_averages_out() -> None:
    truth = unit_rows(2, EMBEDDING_DIM, 2)
    kinds = torch.arange(200) % 2
    regions = regions_of(kinds, truth, noise=1.0)
    decoded = decode(fit_memory(regions, "tiny/1"), encode(truth))
    single = torch.stack([cosines(regions.embeddings[kinds == kind], truth[kind]).max() for kind in range(2)])
    found = cosines(decoded, truth)
    assert (found > single).all(), "better than the best of the regions alone"
    assert found.min() > 0.95


def lifted_regions(share: float) -> tuple[MemoryRegions, Tensor, Tensor]:
    """Six objects in twenty views; a share of the regions has the label of another object.

    Returns:
        The regions, and the unit embedding and the consensus of each object.
    """
    truth = unit_rows(6, EMBEDDING_DIM, 3)
    wrong = torch.rand(20, 6, generator=torch.Generator().manual_seed(6)) < share
    views = labeled_scene(
        20,
        encode(truth),
        lambda view, item: (item + 1 + view % 5) % 6 if wrong[view, item] else item,
        lambda view, labels: noisy(truth[labels], 0.3, 100 + view),
    )
    lifted = lift_latents(views, 12, 1, 8, LiftSettings())
    regions = collect_regions(views, lifted.latents, lifted.region_weights)
    return regions, truth, regions.consensus[:6]


def test_objects_are_identified_despite_mislabeled_regions() -> None:
    for share, least in ((0.0, 0.98), (0.3, 0.8)):
        regions, truth, consensus = lifted_regions(share)
        decoded = decode(fit_memory(regions, "tiny/1"), consensus)
        assert cosines(decoded, truth).min() > least, share
        assert torch.equal((decoded @ truth.T).argmax(dim=1), torch.arange(6))


def test_with_reliability_mislabeled_regions_hardly_change_the_memory() -> None:
    regions, truth, consensus = lifted_regions(0.3)
    reliable = SceneMemory(*make_keys(regions, regions.weights(True), 128), 60.0, "tiny/1")
    by_area = SceneMemory(*make_keys(regions, regions.weights(False), 128), 60.0, "tiny/1")
    robust, plain = (cosines(decode(memory, consensus), truth).min() for memory in (reliable, by_area))
    assert robust > 0.99 > plain


def test_a_rare_object_of_three_small_regions_gets_a_key_of_its_own() -> None:
    truth = unit_rows(6, EMBEDDING_DIM, 2)
    common = regions_of(torch.arange(400) % 5, truth)
    rare = regions_of(torch.full((3,), 5), truth, area=3.0, noise=0.3, seed=20)
    rare = replace(rare, views=torch.tensor([1, 4, 7]))
    memory = fit_memory(together(common, rare), "tiny/1")
    keys = memory.keys.float()
    own = nearest_keys(rare.consensus, keys)
    assert not set(own.tolist()) & set(nearest_keys(common.consensus, keys).tolist())
    assert cosines(decode(memory, rare.consensus), truth[5:]).min() > 0.9


def test_the_same_regions_give_the_same_memory() -> None:
    regions, others = (regions_of(torch.arange(300) % 6, unit_rows(6, EMBEDDING_DIM, seed)) for seed in (2, 3))
    first, again, other = (fit_memory(some, "tiny/1") for some in (regions, regions, others))
    assert first.sha256 == again.sha256 != other.sha256


# Keys


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 80), num_keys=st.integers(1, 40), seed=st.integers(0, 1000))
def test_masses_of_keys_add_up_to_one_and_values_are_means(count: int, num_keys: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    regions = regions_of(torch.randint(4, (count,), generator=generator), unit_rows(4, EMBEDDING_DIM, 2), seed=seed)
    weights = 0.01 + torch.rand(count, generator=generator)
    keys, log_masses, values = make_keys(regions, weights, num_keys)
    assert 1 <= len(keys) == len(log_masses) == len(values) <= num_keys
    torch.testing.assert_close(log_masses.exp().sum(), torch.tensor(1.0))
    torch.testing.assert_close(keys.norm(dim=-1), torch.ones(len(keys)))
    assert (values.norm(dim=-1) <= 1 + 1e-3).all()
    shares = weights / weights.sum()
    torch.testing.assert_close(log_masses.exp() @ values, shares @ regions.embeddings, atol=1e-5, rtol=0)


def best_by_brute_force(vectors: Tensor, weights: Tensor, num_keys: int) -> float:
    """The greatest weighted sum of cosines with the keys, over all ways to put vectors into groups."""
    best = -float("inf")
    for owners in product(range(num_keys), repeat=len(vectors)):
        groups = torch.zeros(num_keys, vectors.shape[1])
        groups.index_add_(0, torch.tensor(owners), weights[:, None] * vectors)
        best = max(best, float(groups.norm(dim=-1).sum()))
    return best


@pytest.mark.parametrize("num_keys", [1, 2, 3])
def test_clustering_finds_the_best_of_all_partitions_of_a_toy(num_keys: int) -> None:
    centers = torch.eye(3)[torch.tensor([0, 0, 0, 1, 1, 2, 2])]
    vectors = noisy(centers, 0.3, 5)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 0.2])
    keys = [spherical_kmeans(vectors, weights, num_keys, seed) for seed in range(5)]
    reached = max(float(weights @ (vectors @ some.T).amax(dim=1)) for some in keys)
    assert reached == pytest.approx(best_by_brute_force(vectors, weights, num_keys), rel=1e-5)


def test_every_vector_becomes_a_key_if_there_are_enough_keys() -> None:
    vectors = unit_rows(9, 8, 0)
    keys = spherical_kmeans(vectors, torch.ones(9), 20)
    assert len(keys) == 9 and (keys @ vectors.T).amax(dim=0).min() > 1 - 1e-6


def test_the_nearest_key_is_the_first_on_ties() -> None:
    keys = torch.eye(3)
    assert nearest_keys(F.normalize(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]]), dim=-1), keys).tolist() == [0, 2]


def test_keys_come_from_a_sample_and_values_from_all_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = unit_rows(3, EMBEDDING_DIM, 2)
    regions = regions_of(torch.arange(500) % 3, truth)
    monkeypatch.setattr(kmeans, "MAX_CLUSTERED", 60)
    monkeypatch.setattr(memory_fit, "CHUNK_ROWS", 60)
    keys, log_masses, values = make_keys(regions, regions.areas, 3)
    torch.testing.assert_close(log_masses.exp() @ values, regions.embeddings.mean(dim=0), atol=1e-5, rtol=0)
    owners = nearest_keys(encode(truth), keys)
    assert owners.unique().tolist() == [0, 1, 2]
    assert cosines(values[owners], truth).min() > 0.95


def test_objects_that_the_sample_did_not_see_are_in_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust, "sample_halves", lambda num_views: ([0], [1]))
    # The corners of a tetrahedron are as far apart as four directions can be.
    truth = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]) / 3**0.5
    views = labeled_scene(6, truth, embed=lambda view, labels: unit_rows(4, EMBEDDING_DIM, 7)[labels])
    # Half of the objects are visible only in the last three views.
    for number, view in enumerate(views):
        weights = view.operator.matrix.clone()
        regions = view.regions
        if number < 3:
            weights[:, 4:] = 0
            regions = torch.where(regions < 2, regions, -1)
        operator = DenseWeights(weights, view.operator.height, view.operator.width)
        views[number] = replace(view, operator=operator, regions=regions)
    lifted = lift_latents(views, 8, 1, LATENT_DIM, LiftSettings(), with_consensus=True)
    assert lifted.region_consensus is not None
    for number in (3, 4, 5):
        assert (lifted.region_consensus[number].areas[2:] > 0).all()
    regions = MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights)
    memory = fit_memory(regions, "tiny/1")
    # The first two objects are visible in all views, the others in three.
    assert (cosines(decode(memory, lifted.latents[::2, 0]), unit_rows(4, EMBEDDING_DIM, 7)) > 0.9).all()


def test_lifting_without_views_is_refused() -> None:
    with pytest.raises(GenLangSplatError, match="no view"):
        MemoryRegions.from_consensus([], None)
    with pytest.raises(GenLangSplatError, match="in 0 views"):
        lift_latents([], 8, 1, LATENT_DIM, LiftSettings(), with_consensus=True)
