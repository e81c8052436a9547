"""Lifting on a cluster gives the latents of one process, even if a worker dies."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.lifting.ray import _tree_sum, lift_on_ray
from genlangsplat_ns.lifting.region_views import RegionViews
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.utils.ray import RaySettings
from tests.lifting.stored_views import DeadlyStore, stored_views

SPREAD = RaySettings(items_per_task=2, num_cpus=0.5)
"""Four tasks for the seven views."""


@pytest.fixture(autouse=True)
def three_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits the sums of the 150 Gaussians into three chunks."""
    monkeypatch.setattr("genlangsplat_ns.lifting.ray.GAUSSIANS_PER_CHUNK", 60)


def shape_of(views: RegionViews) -> tuple[int, int, int]:
    return len(views.gaussians), 3, 4


def assert_same(found: LiftedLatents, expected: LiftedLatents) -> None:
    torch.testing.assert_close(found.mass, expected.mass, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.latents, expected.latents, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("rounds", [0, 2])
def test_the_cluster_lifts_what_one_process_lifts(tmp_path: Path, rounds: int) -> None:
    views, settings = stored_views(tmp_path), LiftSettings(robust_rounds=rounds)
    assert_same(lift_on_ray(views, shape_of(views), settings, SPREAD), lift_latents(views, *shape_of(views), settings))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_another_worker_repeats_the_task_of_a_killed_one(tmp_path: Path) -> None:
    views, settings, death = stored_views(tmp_path), LiftSettings(robust_rounds=1), tmp_path / "death"
    deadly = replace(views, store=DeadlyStore.of(views.store, "view-4", death))
    lifted = lift_on_ray(deadly, shape_of(views), settings, SPREAD)
    assert death.exists()
    assert_same(lifted, lift_latents(views, *shape_of(views), settings))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_message_about_a_broken_view_arrives_unchanged(tmp_path: Path) -> None:
    views = stored_views(tmp_path)
    (views.store.folder / "view-3.safetensors").unlink()
    with pytest.raises(GenLangSplatError, match=r"^\S*view-3\.safetensors"):
        lift_on_ray(views, shape_of(views), LiftSettings(), SPREAD)


def test_without_ray_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    views = stored_views(tmp_path, count=1)
    with pytest.raises(GenLangSplatError, match=r'pip install "genlangsplat-ns\[ray\]"'):
        lift_on_ray(views, shape_of(views), LiftSettings(), SPREAD)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8])
def test_the_tree_adds_every_term_once_in_order(count: int) -> None:
    terms = [str(number) for number in range(count)]
    depth = 0

    def add(first: str, second: str) -> str:
        nonlocal depth
        depth += 1
        return first + second

    assert _tree_sum(terms, add) == "".join(map(str, range(count)))
    assert depth == count - 1
