"""What a scene needs, against what is free."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from genlangsplat_ns.config import gen_langsplat, gen_langsplat_lite
from genlangsplat_ns.features.watershed import WatershedMaskGenerator
from genlangsplat_ns.installation.checks import check_installation
from genlangsplat_ns.installation.scene_needs import (
    REGIONS,
    Photographs,
    check_scene,
    compare,
    estimate_needs,
    photographs_of,
)
from tests.views.view_scenes import open_scene, pinhole, write_scene

LITE, FULL = gen_langsplat_lite.config.pipeline.model, gen_langsplat.config.pipeline.model


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene of three photographs of two sizes, the first of which is also held out."""
    sizes = {"a.png": (1000, 500), "b.png": (1000, 500), "c.png": (400, 600)}
    (tmp_path / "images").mkdir()
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / "images" / name)
    return write_scene(tmp_path, {name: pinhole(size) for name, size in sizes.items()})


def test_photographs_are_counted_once(scene: Path) -> None:
    assert photographs_of(open_scene(scene)) == Photographs(3, 2 * 500_000 + 240_000, 1000)


def test_a_limit_of_the_side_scales_all_photographs() -> None:
    photographs = Photographs(3, 1_240_000, 1000)
    assert photographs.limited(None) == photographs.limited(1000) == photographs
    assert photographs.limited(500) == Photographs(3, 310_000, 500)


def test_estimates_are_products_of_what_they_name() -> None:
    photographs = Photographs(10, 10_000_000, 1000)
    needs = estimate_needs(photographs, LITE, "watershed", 384, on_cuda=False)
    assert needs.disk["feature store"] == 10 * 172 * 384 * 2 + 800_000
    assert needs.disk["checkpoint"] == 150_000 * 4 * (3 * (3 + 3 + 4 + 1 + 3) + 48)
    assert needs.memory["photographs"] == 30_000_000
    assert needs.memory["Gaussians"] == 150_000 * 1400
    assert "150,000 Gaussians" in needs.basis and "assumed" not in needs.basis
    full = estimate_needs(photographs, FULL, "sam", 512, on_cuda=False)
    assert full.disk["feature store"] == 10 * 400 * 512 * 2 + 800_000
    assert full.disk["checkpoint"] == 1_000_000 * 4 * (3 * (11 + 48) + 48)
    assert "1,000,000 Gaussians (assumed)" in full.basis


def test_the_cache_of_weights_has_a_limit_and_none_on_a_gpu() -> None:
    small, large = Photographs(1, 1_000_000, 1000), Photographs(1000, 10**9, 1000)
    cached = [
        estimate_needs(photographs, LITE, "watershed", 384, on_cuda).memory["compositing weights"]
        for photographs, on_cuda in ((small, False), (large, False), (large, True))
    ]
    assert 0 < cached[0] < 0.3e9 and cached[1:] == [LITE.language_cache_gb * 1e9, 0]


def test_watershed_makes_no_more_regions_than_estimated() -> None:
    settings = WatershedMaskGenerator().settings
    assert sum(int(settings[name]) for name in ("subparts", "parts", "wholes")) == REGIONS["watershed"]


def test_too_little_is_a_warning_with_advice() -> None:
    needs = {"a": 1e9, "b": 2e9, "c": 0.0}
    enough = compare("disk", needs, 3e9, "a basis", "Free some.")
    assert (enough.state, enough.remedy) == ("ok", "")
    assert enough.found == "about 3.00 GB of 3.00 GB free (a 1.00, b 2.00; for a basis)"
    short = compare("disk", needs, 2.9e9, "a basis", "Free some.")
    assert (short.state, short.remedy, short.stops) == ("warning", "Free some.", False)


def test_a_scene_is_compared_for_both_methods(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0.5e9))
    found = {item.name: item for item in check_scene(scene)}
    assert found["scene"].found.startswith("3 photographs, 0.41 megapixels on average, at most 1000 pixels")
    assert found["gen-langsplat: disk"].state == "warning"
    assert found["gen-langsplat-lite: disk"].state == "ok"
    assert not (scene / "language_features").exists(), "nothing is written"


def test_data_that_cannot_be_read_are_a_finding(tmp_path: Path) -> None:
    (found,) = check_installation([("scene", lambda: check_scene(tmp_path / "gone"), False)])
    assert found.state == "missing" and "gone" in found.found and not found.stops
