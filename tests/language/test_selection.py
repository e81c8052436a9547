"""Selections of Gaussians: set operations, clean-up by connected groups, and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language import selection as selection_module
from genlangsplat_ns.language.selection import GaussianSelection, select_gaussians
from genlangsplat_ns.language.settings import SelectionSettings


def selection_of(*keep: bool) -> GaussianSelection:
    return GaussianSelection(torch.tensor(keep), torch.arange(3.0 * len(keep)).view(-1, 3))


def two_groups(large: int = 30, small: int = 5, seed: int = 0) -> torch.Tensor:
    """Points in two clusters far apart."""
    generator = torch.Generator().manual_seed(seed)
    clumps = torch.randn(large, 3, generator=generator), torch.randn(small, 3, generator=generator) + 100
    return torch.cat(clumps)


def reference_groups(points: np.ndarray, radius: float) -> list[set[int]]:
    """A simple reference implementation of connected components."""
    left, groups = set(range(len(points))), []
    while left:
        group, new = set(), {left.pop()}
        while new:
            group |= new
            near = {i for i in left for j in new if np.linalg.norm(points[i] - points[j]) <= radius}
            left, new = left - near, near
        groups.append(group)
    return groups


@given(st.integers(0, 10_000), st.floats(0.2, 3.0), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_the_clean_up_keeps_large_groups(seed: int, radius: float, share: float) -> None:
    means = 2 * torch.randn(25, 3, generator=torch.Generator().manual_seed(seed))
    cleaned = GaussianSelection(torch.ones(25, dtype=torch.bool), means).cleaned(radius, share)
    groups = reference_groups(means.double().numpy(), radius)
    largest = max(map(len, groups))
    expected = {index for group in groups if len(group) >= share * largest for index in group}
    assert set(cleaned.keep.nonzero().squeeze(-1).tolist()) == expected


def test_the_automatic_radius_removes_a_small_distant_cluster() -> None:
    means = two_groups()
    cleaned = GaussianSelection(torch.ones(35, dtype=torch.bool), means).cleaned(smallest_group=0.5)
    assert cleaned.keep[30:].sum() == 0 and cleaned.keep[:30].float().mean() > 0.5


def test_the_clean_up_ignores_unselected_gaussians() -> None:
    means = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
    ends = GaussianSelection(torch.tensor([True, False, True]), means)
    assert ends.cleaned(radius=1.5, smallest_group=0.0).count == 2
    assert not (ends.cleaned(radius=1.5).keep & ~ends.keep).any()


def test_a_radius_with_too_many_pairs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection_module, "MAX_PAIRS", 10)
    with pytest.raises(GenLangSplatError, match="smaller radius"):
        GaussianSelection(torch.ones(35, dtype=torch.bool), two_groups()).cleaned(radius=500.0)


def test_selections_combine_like_sets() -> None:
    a, b = selection_of(True, True, False, False), selection_of(True, False, True, False)
    assert (a & b).keep.tolist() == [True, False, False, False]
    assert (a | b).keep.tolist() == [True, True, True, False]
    assert (a - b).keep.tolist() == [False, True, False, False]
    assert (~a).keep.tolist() == [False, False, True, True]
    assert torch.equal((a - b).keep, (a & ~b).keep)


def test_selections_of_different_scenes_do_not_combine() -> None:
    with pytest.raises(GenLangSplatError, match="one scene"):
        selection_of(True, False) & selection_of(True, False, True)


def test_growing_adds_gaussians_up_to_and_including_the_radius() -> None:
    means = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
    chosen = GaussianSelection(torch.tensor([True, False, False]), means)
    assert chosen.grown(1.0).keep.tolist() == [True, True, False]
    assert chosen.grown(0.0) is chosen
    with pytest.raises(GenLangSplatError, match="grow"):
        chosen.grown(-1.0)


def test_statistics() -> None:
    chosen = selection_of(True, False, True)
    assert chosen.count == 2
    assert chosen.box == ((0.0, 1.0, 2.0), (6.0, 7.0, 8.0)) and chosen.centroid == (3.0, 4.0, 5.0)
    nothing = selection_of(False, False)
    assert (nothing.count, nothing.box, nothing.centroid) == (0, None, None)


def test_a_required_selection_must_not_be_empty() -> None:
    with pytest.raises(GenLangSplatError, match=r'"a fox".*Lower the threshold'):
        selection_of(False, False).require_some('"a fox"')
    assert selection_of(False, False).cleaned().count == 0 and selection_of(False, False).grown(1.0).count == 0


def test_gaussians_are_selected_above_threshold_and_minimum_opacity() -> None:
    relevancy, opacities = torch.tensor([0.9, 0.9, 0.5, 0.0]), torch.tensor([0.9, 0.01, 0.9, 0.9])
    chosen = select_gaussians(relevancy, torch.zeros(4, 3), opacities, 0.5, SelectionSettings(clean_up=False))
    assert chosen.keep.tolist() == [True, False, False, False]


def test_centers_that_are_not_finite_are_never_selected() -> None:
    means = torch.tensor([[0.0, 0, 0], [float("nan"), 0, 0], [0.1, 0, 0]])
    chosen = select_gaussians(torch.ones(3), means, torch.ones(3), 0.5, SelectionSettings())
    assert chosen.keep.tolist() == [True, False, True]
    assert chosen.grown(5.0).keep.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"min_opacity": -0.1}, "min_opacity"), ({"smallest_group": 2.0}, "smallest_group"), ({"radius": 0.0}, "radius")],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        SelectionSettings(**changes)
