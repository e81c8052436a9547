"""Each fault of a language field is named by its own line, and a good field has none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from genlangsplat_ns.lifting.health import (
    GOOD_FIDELITY,
    CodeSample,
    HealthLine,
    describe_health,
    judge,
)
from genlangsplat_ns.lifting.health_measures import (
    RenderedRegions,
    code_fidelity,
    discernment,
    displacement,
    effective_directions,
    groups_of_regions,
    mean_cosine_of_pairs,
    wrong_side_share,
)
from tests.lifting.made_up_field import (
    EMBEDDING_DIM,
    HEIGHT,
    LATENT_DIM,
    LEVELS,
    WIDTH,
    Field,
    moved,
    smooth_field,
)

NAMES = ["semantic bleeding", "latent collapse", "geometry-semantic misalignment", "unfaithful code"]
SEEDS = range(3)


def named(lines: list[HealthLine]) -> list[str]:
    assert [line.name for line in lines] == NAMES
    return [line.name for line in lines if line.faulty]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_good_field_has_no_fault(seed: int) -> None:
    field = Field(seed)
    assert named(judge([field.view(), field.view()], field.gaussians(), field.code())) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_with_borders_that_move_bleed(seed: int) -> None:
    field = Field(seed)
    maps = [moved(field.regions, smooth_field(field.generator, 15)) for _ in range(12)]
    # What many views with such masks average to.
    rendered = torch.stack([field.latents[regions.permute(1, 2, 0).long()] for regions in maps[2:]]).mean(dim=0)
    views = [field.view(regions, rendered) for regions in maps[:2]]
    assert named(judge(views, field.gaussians(), field.code())) == ["semantic bleeding"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["all the same", "noise"])
def test_latents_that_are_all_the_same_or_noise_collapsed(seed: int, kind: str) -> None:
    field = Field(seed)
    shape = HEIGHT, WIDTH, LEVELS, LATENT_DIM
    if kind == "noise":
        rendered, gaussians = field.random(*shape), field.random(500, LEVELS, LATENT_DIM)
    else:
        rendered = field.latents.mean(dim=0) + 0.001 * field.random(*shape)
        gaussians = field.latents.mean(dim=0).expand(500, LEVELS, -1)
    lines = judge([field.view(rendered=rendered)], gaussians, field.code())
    assert named(lines) == ["latent collapse"]
    assert "collapsed" in lines[0].hidden_by and "collapsed" in lines[2].hidden_by


@pytest.mark.parametrize("seed", SEEDS)
def test_latents_in_the_wrong_place_are_misaligned(seed: int) -> None:
    field = Field(seed)
    good = field.view()
    angle = torch.rand(1, generator=field.generator) * 6.28
    offset = int(7 * angle.cos()), int(7 * angle.sin())
    view = replace(good, rendered=good.rendered.roll(offset, dims=(0, 1)))
    lines = judge([view], field.gaussians(), field.code())
    assert named(lines) == ["geometry-semantic misalignment"]
    expected = (offset[0] ** 2 + offset[1] ** 2) ** 0.5 / WIDTH
    assert lines[2].value == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_code_of_another_domain_is_unfaithful(seed: int) -> None:
    field = Field(seed)
    other = torch.linalg.qr(field.random(EMBEDDING_DIM, EMBEDDING_DIM))[0][:LATENT_DIM]
    assert named(judge([field.view()], field.gaussians(), field.code(other))) == ["unfaithful code"]


def test_what_counts_is_the_decoder_of_the_run() -> None:
    """A memory can decode what the autoencoder cannot; the cosine of the autoencoder is beside it."""
    field = Field(0)
    other = torch.linalg.qr(field.random(EMBEDDING_DIM, EMBEDDING_DIM))[0][:LATENT_DIM]
    good, bad = field.code(), field.code(other)
    mended = judge([field.view()], field.gaussians(), replace(good, autoencoder=bad.decode))
    details = mended[3].details
    assert named(mended) == [] and mended[3].value > 0.9 > 0.5 > details["cosine_of_autoencoder"]
    assert details["retrieval"] > 0.9 > details["retrieval_of_autoencoder"]
    spoiled = judge([field.view()], field.gaussians(), replace(bad, autoencoder=good.decode))
    assert named(spoiled) == ["unfaithful code"] and "memory" in spoiled[3].meaning


def test_a_memory_of_collapsed_latents_is_not_judged() -> None:
    field = Field(0)
    other = torch.linalg.qr(field.random(EMBEDDING_DIM, EMBEDDING_DIM))[0][:LATENT_DIM]
    view = field.view(rendered=field.random(HEIGHT, WIDTH, LEVELS, LATENT_DIM))
    memory = replace(field.code(other), autoencoder=field.code().decode)
    assert named(judge([view], field.random(500, LEVELS, LATENT_DIM), memory)) == ["latent collapse"]
    # An autoencoder does not depend on the latents of the scene.
    lines = judge([view], field.random(500, LEVELS, LATENT_DIM), field.code(other))
    assert named(lines) == ["latent collapse", "unfaithful code"]


def test_latents_that_are_not_numbers_are_not_measured() -> None:
    field = Field(0)
    rendered = field.latents[field.regions.permute(1, 2, 0).long()] * torch.nan
    lines = judge([field.view(rendered=rendered)], field.gaussians() * torch.nan, field.code())
    assert all(math.isfinite(value) for line in lines for value in line.details.values())
    assert all(line.value is None or math.isfinite(line.value) for line in lines)


def test_without_views_nothing_is_judged() -> None:
    field = Field(0)
    groups = torch.zeros(0, dtype=torch.long)
    empty = CodeSample(torch.zeros(0, EMBEDDING_DIM), torch.zeros(0, LATENT_DIM), groups, field.code().decode)
    lines = judge([], field.gaussians(), empty)
    assert [line.value for line in lines] == [None] * 4 and named(lines) == []
    assert "not measured" in describe_health(lines)


def test_a_view_without_regions_or_latents_does_not_count() -> None:
    field = Field(0)
    good = field.view()
    blank = replace(good, regions=torch.full_like(good.regions, -1))
    unseen = replace(good, rendered=torch.zeros_like(good.rendered))
    assert [line.value for line in judge([blank, unseen], field.gaussians(), field.code())[:3]] == [None] * 3
    both = judge([good, blank, unseen], field.gaussians(), field.code())
    assert both[2].value == judge([good], field.gaussians(), field.code())[2].value


def test_one_line_names_the_fault_and_the_setting_to_change() -> None:
    field = Field(0)
    rendered = field.random(HEIGHT, WIDTH, LEVELS, LATENT_DIM)
    lines = judge([field.view(rendered=rendered)], field.random(500, LEVELS, LATENT_DIM), field.code(), optimized=True)
    sentence = describe_health(lines)
    assert "\n" not in sentence and "latent collapse" in sentence and "optimizers.latents.optimizer.lr" in sentence
    healthy = judge([field.view()], field.gaussians(), field.code())
    assert "none of semantic bleeding" in describe_health(healthy)
    noisy = replace(field.code(), latents=field.code().latents + 0.15 * field.random(field.count * LEVELS, LATENT_DIM))
    low = judge([field.view()], field.gaussians(), noisy)
    assert named(low) == [] and f"less than {GOOD_FIDELITY}" in describe_health(low)
    both = judge([field.view()], field.gaussians(), replace(noisy, autoencoder=field.code().decode))
    assert "with the memory and 0.8" in describe_health(both)


def test_half_of_the_pixels_at_a_border_are_wrong_where_two_regions_have_become_one() -> None:
    field = Field(0)
    rendered = field.latents.mean(dim=0).expand(HEIGHT, WIDTH, LEVELS, -1)
    assert wrong_side_share([field.view(rendered=rendered)]) == pytest.approx(0.5)
    assert wrong_side_share([field.view()]) == pytest.approx(0.0, abs=0.01)


def test_discernment_and_displacement_of_a_perfect_field() -> None:
    field = Field(0)
    view = field.view(rendered=field.latents[field.regions.permute(1, 2, 0).long()])
    found = displacement([view])
    assert found is not None and found.distance == 0 and found.agreement == pytest.approx(1.0, abs=1e-4)
    assert discernment([view], found.best_agreement) == pytest.approx(1.0, abs=1e-3)


def test_effective_directions_and_cosines_of_pairs() -> None:
    axes = torch.eye(16)[:4]
    assert effective_directions(axes) == pytest.approx(4.0, abs=1e-3)
    assert effective_directions(torch.cat([axes[:1].repeat(9, 1), torch.zeros(3, 16)])) == pytest.approx(1.0, abs=1e-3)
    assert effective_directions(torch.zeros(2, 16)) == 0
    assert mean_cosine_of_pairs(axes) == 0 and mean_cosine_of_pairs(axes[:1].repeat(3, 1)) == pytest.approx(1)


def test_retrieval_counts_own_neighbors_in_the_same_view_and_level() -> None:
    embeddings = torch.eye(4)

    def swapped(latents: Tensor) -> Tensor:
        return latents[[1, 0, 2, 3]]

    together, apart = torch.zeros(4, dtype=torch.long), torch.tensor([0, 1, 2, 2])
    found = code_fidelity(embeddings, embeddings, together, swapped)
    assert found is not None and found.cosine == found.retrieval == 0.5
    found = code_fidelity(embeddings, embeddings, apart, swapped)
    assert found is not None and (found.cosine, found.retrieval) == (0.5, 1.0)
    assert code_fidelity(embeddings[:0], embeddings[:0], together[:0], swapped) is None


def test_regions_of_one_map_are_one_group() -> None:
    def view(count: int, *maps: list[int]) -> RenderedRegions:
        regions = torch.tensor(maps, dtype=torch.int32)[:, None]
        return RenderedRegions(regions, torch.zeros(count, 2), torch.zeros(1, 2, len(maps), 2))

    groups = groups_of_regions([view(3, [0, -1], [1, 1]), view(3, [1, 0], [2, -1])]).tolist()
    assert groups[3] == groups[4], "both are in the first map of the second view"
    assert len(set(groups)) == 5, "all others, also the region in no map, are alone"
    assert groups_of_regions([]).tolist() == []
