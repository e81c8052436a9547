"""Each fault of a language field is named by its own line, and a good field has none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
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
    agreement_at_depth_edges,
    code_fidelity,
    discernment,
    displacement,
    effective_directions,
    mean_cosine_of_pairs,
    unseen_share,
    wrong_side_share,
)

HEIGHT, WIDTH, LEVELS, LATENT_DIM, EMBEDDING_DIM = 96, 128, 3, 16, 48
CELL = 24
"""Side of the square regions."""

NAMES = ["semantic bleeding", "latent collapse", "geometry-semantic misalignment", "unfaithful code"]
SEEDS = range(3)


def smooth_field(generator: torch.Generator, reach: float) -> Tensor:
    """Random offsets of every pixel along both axes, in pixels, which change slowly."""
    coarse = reach * (2 * torch.rand(1, 2, HEIGHT // 12, WIDTH // 12, generator=generator) - 1)
    return F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)[0].round().long()


def moved(regions: Tensor, offsets: Tensor) -> Tensor:
    """Reads a map of regions at displaced positions."""
    y = (torch.arange(HEIGHT)[:, None] + offsets[0]).clamp(0, HEIGHT - 1)
    x = (torch.arange(WIDTH)[None] + offsets[1]).clamp(0, WIDTH - 1)
    return regions[:, y, x]


class Field:
    """A made-up field: square regions, which all views share, and a code that is a random rotation."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        rows = torch.arange(HEIGHT)[:, None] // CELL * -(-WIDTH // CELL) + torch.arange(WIDTH)[None] // CELL
        self.count = int(rows.max()) + 1
        self.regions = torch.stack([rows + level * self.count for level in range(LEVELS)]).int()
        # The objects have something in common, as embeddings of images do.
        common = torch.ones(LATENT_DIM) / LATENT_DIM**0.5
        self.latents = F.normalize(common + self.random(LEVELS * self.count, LATENT_DIM) / 3, dim=-1)
        basis = torch.linalg.qr(self.random(EMBEDDING_DIM, EMBEDDING_DIM))[0][:LATENT_DIM]
        self.embeddings = F.normalize(
            self.latents @ basis + 0.05 * self.random(len(self.latents), EMBEDDING_DIM), dim=-1
        )
        self.basis = basis

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def view(self, regions: Tensor | None = None, rendered: Tensor | None = None) -> RenderedRegions:
        """A view; by default with the latents of its regions and a little noise, at an opacity of 0.9."""
        regions = self.regions if regions is None else regions
        if rendered is None:
            rendered = self.latents[self.regions.permute(1, 2, 0).long()]
            rendered = 0.9 * (rendered + 0.05 * self.random(*rendered.shape))
        return RenderedRegions(regions, self.latents, rendered)

    def code(self, basis: Tensor | None = None) -> CodeSample:
        """The code of the field, or a linear code with another basis."""
        basis = self.basis if basis is None else basis
        latents = F.normalize(self.embeddings @ basis.T, dim=-1)

        def decode(values: Tensor) -> Tensor:
            return F.normalize(values @ basis, dim=-1)

        return CodeSample(self.embeddings, latents, decode, False, False, decode)

    def gaussians(self) -> Tensor:
        return self.latents[:, None].expand(-1, LEVELS, -1)


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


def test_a_projection_is_judged_only_without_the_memory() -> None:
    field = Field(0)
    other = torch.linalg.qr(field.random(EMBEDDING_DIM, EMBEDDING_DIM))[0][:LATENT_DIM]
    projection = replace(field.code(other), is_projection=True, with_memory=True)
    lines = judge([field.view()], field.gaussians(), projection)
    assert named(lines) == [] and "memory" in lines[3].hidden_by and "cosine_with_memory" in lines[3].details
    assert named(judge([field.view()], field.gaussians(), replace(projection, with_memory=False))) == [NAMES[3]]


def test_without_views_nothing_is_judged() -> None:
    field = Field(0)
    empty = CodeSample(torch.zeros(0, 48), torch.zeros(0, 16), field.code().decode, False, False, field.code().decode)
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
    low = [replace(line, value=0.8) if line.name == NAMES[3] else line for line in healthy]
    assert named(low) == [] and f"less than {GOOD_FIDELITY}" in describe_health(low)


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


def test_opaque_gaussians_without_a_latent_and_agreement_at_depth_edges() -> None:
    latents = torch.zeros(4, LEVELS, LATENT_DIM)
    latents[:2, 0, 0] = 1.0
    assert unseen_share(torch.tensor([0.9, 0.1, 0.9, 0.1]), latents) == 0.5
    field = Field(0)
    depth = torch.ones(HEIGHT, WIDTH)
    assert agreement_at_depth_edges(field.view(), depth) is None
    depth[:, CELL:] = 2.0
    good = field.view()
    rendered = good.rendered.clone()
    rendered[:, CELL - 1 : CELL + 1] = -rendered[:, CELL - 1 : CELL + 1]
    found = agreement_at_depth_edges(replace(good, rendered=rendered), depth)
    assert found is not None and found[0] < 0.5 < 0.9 < found[1]


def test_fidelity_counts_own_neighbors() -> None:
    embeddings = torch.eye(4)
    found = code_fidelity(embeddings, embeddings, lambda latents: latents[[1, 0, 2, 3]])
    assert found is not None and found.cosine == found.retrieval == 0.5
    assert code_fidelity(embeddings[:0], embeddings[:0], lambda latents: latents) is None
