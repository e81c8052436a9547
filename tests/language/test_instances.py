"""Instances are the connected groups of a class."""

from __future__ import annotations

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.instances import find_instances
from genlangsplat_ns.language.settings import LabelSettings


def ball(center: tuple[float, float, float], count: int, radius: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Points in a ball."""
    directions = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    lengths = torch.rand(count, 1, generator=torch.Generator().manual_seed(seed + 1)) ** (1 / 3)
    return torch.tensor(center) + radius * lengths * directions / directions.norm(dim=1, keepdim=True)


def instances_of(
    means: torch.Tensor,
    classes: torch.Tensor | None = None,
    opacities: torch.Tensor | None = None,
    size: float = 0.0,
    **settings: float,
) -> list[int]:
    """The instances of Gaussians of one class."""
    count = len(means)
    classes = torch.ones(count, dtype=torch.int64) if classes is None else classes
    opacities = torch.ones(count) if opacities is None else opacities
    sizes = torch.full((count,), size)
    return find_instances(means, sizes, opacities, classes, LabelSettings(**settings)).tolist()


def test_numbers_run_through_the_classes_from_large_to_small_groups() -> None:
    means = torch.cat([ball((0, 0, 0), 200), ball((6, 0, 0), 300), ball((0, 0, 0), 250), ball((9, 0, 0), 50)])
    classes = torch.tensor([1, 1, 2, 0]).repeat_interleave(torch.tensor([200, 300, 250, 50]))
    found = instances_of(means, classes, radius=0.8, core_neighbors=1)
    assert found == [2] * 200 + [1] * 300 + [3] * 250 + [0] * 50


def test_small_groups_are_no_instance() -> None:
    means = torch.cat([ball((0, 0, 0), 400), ball((5, 0, 0), 30, 0.4)])
    assert instances_of(means, radius=0.7, smallest_instance=0.1)[-30:] == [0] * 30
    assert instances_of(means, radius=0.7, smallest_instance=0.05)[-30:] == [2] * 30


def test_a_thin_bridge_does_not_connect_two_things() -> None:
    bridge = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]).T[:1] * torch.linspace(0.9, 5.1, 12)[:, None]
    means = torch.cat([ball((0, 0, 0), 500), ball((6, 0, 0), 500, seed=5), bridge])
    assert set(instances_of(means, radius=0.45, core_neighbors=0)) == {1}
    assert set(instances_of(means, radius=0.45, core_neighbors=4)[:1000]) == {1, 2}


def test_the_radius_follows_the_spacing_of_the_class() -> None:
    means = torch.cat([ball((0, 0, 0), 500), ball((4, 0, 0), 500, seed=3)])
    for scale in (1e-3, 1.0, 1e3):
        found = instances_of(scale * means)
        assert set(found[:500]) == {found[0]} and set(found[500:]) == {3 - found[0]}


def test_large_gaussians_connect_over_their_size() -> None:
    line = torch.arange(40.0)[:, None] * torch.tensor([1.0, 0, 0])
    assert set(instances_of(line, radius=0.5, core_neighbors=0, smallest_instance=0.0)) == set(range(1, 41))
    assert set(instances_of(line, radius=0.5, core_neighbors=0, size=0.6)) == {1}


def test_faint_gaussians_join_but_do_not_connect() -> None:
    between = torch.tensor([1.0, 0, 0]) * torch.linspace(0.5, 5.5, 60)[:, None]
    means = torch.cat([ball((0, 0, 0), 400), ball((6, 0, 0), 300, seed=2), between])
    opacities = torch.cat([torch.ones(700), torch.full((60,), 0.01)])
    found = instances_of(means, opacities=opacities, radius=0.6)
    assert found[:400] == [1] * 400 and found[400:700] == [2] * 300
    assert found[700] == 1 and found[-1] == 2 and found[730] == 0


def test_dense_clusters_that_are_near_are_one_group() -> None:
    """Each point of a cluster has more neighbors in it than are looked at."""
    means = torch.cat([ball((0, 0, 0), 60, 1e-4), ball((0.3, 0, 0), 60, 1e-4, seed=4)])
    assert set(instances_of(means, radius=0.5)) == {1}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_gaussians_are_one_instance(count: int) -> None:
    assert instances_of(torch.zeros(count, 3)) == [1] * count
    assert instances_of(torch.full((count, 3), float("nan"))) == [0] * count


def test_impossible_settings_are_refused() -> None:
    for settings in ({"radius": 0.0}, {"core_neighbors": 17}, {"threshold": 1.5}):
        with pytest.raises(GenLangSplatError, match="Found"):
            LabelSettings(**settings)
