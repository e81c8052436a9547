"""pycolmap on rendered pictures of the gallery: cameras are those of the truth, up to a similarity."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.colmap import UNFINISHED, Colmap, import_pycolmap
from genlangsplat_ns.photographs.outcome import Outcome
from genlangsplat_ns.photographs.scene import make_scene
from genlangsplat_ns.photographs.settings import PhotographSettings

needs_pycolmap = pytest.mark.skipif(find_spec("pycolmap") is None, reason='needs pycolmap: pip install -e ".[photos]"')

SETTINGS = PhotographSettings(intrinsics="shared", max_features=1500)


def test_without_pycolmap_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(GenLangSplatError, match=r'pip install "genlangsplat-ns\[photos\]"'):
        import_pycolmap()


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen views of the gallery, whose cameras are known."""
    return build_gallery(tmp_path_factory.mktemp("gallery"), GallerySettings(num_views=16, num_points=100))


@pytest.fixture(scope="module")
def found(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The scene that is made of these views, of one that is blurred and of one of something else."""
    folder = tmp_path_factory.mktemp("photographs")
    source = shutil.copytree(gallery / "images", folder / "source")
    with Image.open(source / "0008.png") as file:
        file.filter(ImageFilter.GaussianBlur(25)).save(source / "ünscharf 1.png")
    noise = np.random.default_rng(0).integers(0, 255, (36, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((384, 288), Image.Resampling.BICUBIC).save(source / "other.png")
    outcome, _ = make_scene(source, folder / "scene", SETTINGS)
    return folder / "scene", outcome


def poses_of(scene: Path) -> dict[str, np.ndarray]:
    frames = json.loads((scene / "transforms.json").read_text())["frames"]
    return {frame["file_path"]: np.array(frame["transform_matrix"]) for frame in frames}


def aligned(moving: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The rotation, moved points and scale of the similarity that moves points closest to others (Umeyama)."""
    centered, target = moving - moving.mean(0), fixed - fixed.mean(0)
    left, values, right = np.linalg.svd(target.T @ centered)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ sign @ right
    scale = (values * np.diag(sign)).sum() / (centered**2).sum()
    return rotation, scale * centered @ rotation.T + fixed.mean(0), scale


@pytest.mark.slow
@needs_pycolmap
def test_cameras_are_those_of_the_truth(gallery: Path, found: tuple[Path, Outcome]) -> None:
    scene, outcome = found
    truth, poses = poses_of(gallery), poses_of(scene)
    assert set(poses) == set(truth)
    names = sorted(truth)
    fixed = np.array([truth[name] for name in names])
    moving = np.array([poses[name] for name in names])
    rotation, positions, _ = aligned(moving[:, :3, 3], fixed[:, :3, 3])
    errors = np.linalg.norm(positions - fixed[:, :3, 3], axis=1)
    # The cameras stand about 3 m from the wall.
    assert np.median(errors) < 0.02 and errors.max() < 0.1
    cosines = [(np.trace((rotation @ a[:3, :3]).T @ b[:3, :3]) - 1) / 2 for a, b in zip(moving, fixed, strict=True)]
    assert np.degrees(np.arccos(np.clip(cosines, -1, 1))).max() < 1.0
    assert outcome.error < 1.0 and outcome.points > 300


@pytest.mark.slow
@needs_pycolmap
def test_the_focal_length_is_found(found: tuple[Path, Outcome]) -> None:
    document = json.loads((found[0] / "transforms.json").read_text())
    assert document["fl_x"] == pytest.approx(0.9 * 384, rel=0.03)


@pytest.mark.slow
@needs_pycolmap
def test_photographs_that_do_not_belong_are_named(found: tuple[Path, Outcome]) -> None:
    outcome = found[1]
    assert (outcome.photographs, outcome.placed) == (18, 16)
    reasons = {item.name: item.reason for item in outcome.unplaced}
    assert "blurred" in reasons["ünscharf_1.png"] and "too few matches" in reasons["other.png"]


@pytest.mark.slow
@needs_pycolmap
def test_features_and_matches_are_kept(gallery: Path, found: tuple[Path, Outcome], tmp_path: Path) -> None:
    """What one call stored, the next one reads in the same form."""
    scene = found[0]
    solver = Colmap(scene / "colmap/database.db", scene / "images", scene / "masks")
    features, matched = solver.features(), solver.matched()
    pairs = list(combinations(sorted(features), 2))
    # Also those without a match.
    assert len(features) == 18 and solver.compared(pairs) == set(pairs) and len(matched) < len(pairs)
    assert solver.compared([("0001.png", "new.png")]) == set()
    assert min(features[f"{number:04d}.png"] for number in range(1, 17)) > 100
    assert solver.descriptors("0008.png").shape == (features["0008.png"], 128)
    assert matched["0008.png", "0009.png"] > matched.get(("0008.png", "other.png"), 0)


@pytest.mark.slow
@needs_pycolmap
def test_masked_pixels_have_no_features(gallery: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "masks").mkdir()
    for number in (7, 8, 9):
        shutil.copy(gallery / f"images/{number:04d}.png", source)
        mask = np.zeros((288, 384), np.uint8)
        Image.fromarray(mask).save(source / f"masks/{number:04d}.png")
    with pytest.raises(GenLangSplatError, match="they have 0 features in the middle"):
        make_scene(source, tmp_path / "scene", SETTINGS)
    assert not (tmp_path / "scene/transforms.json").exists()


@pytest.mark.slow
@needs_pycolmap
def test_photographs_of_one_place_are_refused(gallery: Path, tmp_path: Path) -> None:
    """Almost identical pictures match well, and give no depth."""
    source = tmp_path / "source"
    source.mkdir()
    with Image.open(gallery / "images/0008.png") as file:
        for level in range(4):
            file.point(lambda value, level=level: max(0, value - level)).save(source / f"{level}.png")
    with pytest.raises(GenLangSplatError, match="equal, or taken from one place"):
        make_scene(source, tmp_path / "scene", SETTINGS)


@needs_pycolmap
def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "database.db").write_bytes(b"no database" * 100)
    with pytest.raises(GenLangSplatError, match=r"COLMAP could not open the database \(.*remove .*database\.db first"):
        Colmap(tmp_path / "database.db", tmp_path, tmp_path / "masks")


@needs_pycolmap
def test_what_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "colmap"
    solver = Colmap(work / "database.db", tmp_path, tmp_path / "masks")
    (work / UNFINISHED / "0").mkdir(parents=True)
    written_to = []

    def find_nothing(database: Path, images: Path, folder: Path, **_: object) -> dict[int, object]:
        written_to.append((Path(folder).name, list(Path(folder).iterdir())))
        return {}

    monkeypatch.setattr(import_pycolmap(), "incremental_mapping", find_nothing)
    assert solver.solve(["1.jpg"], work / "sparse", lambda count: None) == []
    assert written_to == [(UNFINISHED, [])]
    assert [path.name for path in work.iterdir()] == ["database.db"]
