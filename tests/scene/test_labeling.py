"""Every Gaussian of a scene gets one class and one instance, which other programs can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
import torch

from genlangsplat_ns.commands.label import Label
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import MAX_CLASSES, LabelSettings
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.ply import read_antialiased, read_ply
from tests.scene.language_scenes import NUM_GAUSSIANS, UNSEEN, language_scene, two_clouds
from tests.scene.test_export import store_frame, turned

HALF = NUM_GAUSSIANS // 2


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> GenLangSplatModel:
    """The model of the opened run: a cloud on the left and one on the right, which the texts name."""
    model = two_clouds()
    model.step = 10_000
    monkeypatch.setattr(Label, "open", lambda self: language_scene(model))
    return model


def label(folder: Path, *texts: str, threshold: float = 0.8, radius: float | None = 0.4, **flags: Any) -> Any:
    """Runs the command and returns the rows of its PLY file and its document."""
    settings = LabelSettings(threshold=threshold, radius=radius, level="whole")
    Label(load_config=Path("config.yml"), texts=texts, output_dir=folder, settings=settings, **flags)()
    vertices = plyfile.PlyData.read(str(folder / "labels.ply"))["vertex"]
    return vertices, json.loads((folder / "labels.json").read_text(encoding="utf-8"))


def test_every_gaussian_gets_the_class_of_its_text(model: GenLangSplatModel, tmp_path: Path) -> None:
    vertices, document = label(tmp_path, "left; right")
    expected = np.repeat([1, 2, 0], [HALF, HALF - UNSEEN, UNSEEN])
    assert vertices["class_id"].dtype == np.uint16 and vertices["instance_id"].dtype == np.uint32
    assert np.array_equal(vertices["class_id"], expected)
    counts = {entry["name"]: entry["gaussians"] for entry in document["classes"]}
    assert counts == {"unlabeled": UNSEEN, "left": HALF, "right": HALF - UNSEEN}
    assert torch.equal(read_ply(tmp_path / "labels.ply").means, model.means.detach())


def test_things_of_one_class_that_stand_apart_are_told_apart(model: GenLangSplatModel, tmp_path: Path) -> None:
    model.means.data[: HALF // 3, 1] += 5.0
    vertices, document = label(tmp_path, "left; right")
    first, second, third = document["instances"]
    assert [entry["class"] for entry in (first, second, third)] == ["left", "left", "right"]
    assert first["gaussians"] > second["gaussians"] > 0.9 * HALF // 3
    assert second["centroid"]["run"][1] - first["centroid"]["run"][1] == pytest.approx(5.0, abs=0.3)
    assert set(vertices["instance_id"][: HALF // 3]) <= {0, second["instance_id"]}
    assert document["classes"][1]["instances"] == [1, 2]


def test_boxes_hold_their_gaussians_in_both_frames(model: GenLangSplatModel, tmp_path: Path, monkeypatch: Any) -> None:
    frame = turned(500_000.0, 0.02)
    scene = LanguageScene(model, language_scene(model).datamanager, store_frame(tmp_path, frame))
    monkeypatch.setattr(Label, "open", lambda self: scene)
    vertices, document = label(tmp_path / "out", "left; right", frame="capture")
    assert document["frame"] == "capture" and document["capture_frame"]["scale"] == 0.02
    entry = document["instances"][0]
    members = np.stack([vertices[axis] for axis in "xyz"], 1)[vertices["instance_id"] == 1] + document["offset"]
    center, axes, size = (np.array(entry["box"]["capture"][key]) for key in ("center", "axes", "size"))
    assert np.linalg.det(axes) == pytest.approx(1.0)
    assert (np.abs((members - center) @ axes.T) <= size / 2 + 1e-2).all()
    assert size == pytest.approx(np.array(entry["box"]["run"]["size"]) / 0.02)
    assert members.mean(axis=0) == pytest.approx(np.array(entry["centroid"]["capture"]), abs=1e-2)


def test_the_preview_shows_the_colors_of_the_document(model: GenLangSplatModel, tmp_path: Path) -> None:
    _, document = label(tmp_path, "left; right", colored="class")
    preview = read_ply(tmp_path / "labels-colored.ply")
    colors = (preview.features_dc * 0.28209479177387814 + 0.5) * 255
    for row, number in ((0, 1), (HALF, 2), (NUM_GAUSSIANS - 1, 0)):
        assert colors[row].tolist() == pytest.approx(document["classes"][number]["color"], abs=0.01)
    assert preview.sh_degree == 0 and preview.means.shape == (NUM_GAUSSIANS, 3)


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_the_files_of_an_antialiased_run_say_so(model: GenLangSplatModel, tmp_path: Path, mode: str) -> None:
    model.config.rasterize_mode = mode
    label(tmp_path, "left; right", colored="class")
    for file in ("labels.ply", "labels-colored.ply"):
        assert read_antialiased(tmp_path / file) == (mode == "antialiased")


def test_a_preview_of_replaced_labels_is_removed(model: GenLangSplatModel, tmp_path: Path) -> None:
    label(tmp_path, "left; right", colored="class")
    label(tmp_path, "right", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.json", "labels.ply"]


def test_the_same_command_writes_the_same_files(model: GenLangSplatModel, tmp_path: Path) -> None:
    for name in ("first", "second"):
        label(tmp_path / name, "left; right", radius=None)
    for file in ("labels.ply", "labels.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_a_vocabulary_names_the_classes(model: GenLangSplatModel, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("right\n\nleft\nright\n")
    vertices, document = label(tmp_path, vocabulary=tmp_path / "words.txt")
    assert [entry["name"] for entry in document["classes"]] == ["unlabeled", "right", "left"]
    assert vertices["class_id"][0] == 2


def test_a_text_without_gaussians_is_named(
    model: GenLangSplatModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, document = label(tmp_path, "left; a thing that is not there", threshold=0.9)
    assert document["classes"][2]["gaussians"] == 0
    assert '"a thing that is not there"' in caplog.text and '"left"' not in caplog.text


@pytest.mark.parametrize(
    ("texts", "flags", "message"),
    [
        (("a thing that is not there",), {"threshold": 0.9}, "No Gaussian is labeled: none of the 1 texts"),
        (("left",), {"frame": "capture"}, "frame of the input poses is unknown"),
        ((), {}, "neither of --texts and --vocabulary"),
        (("left",), {"vocabulary": Path("words.txt")}, "both of --texts and --vocabulary"),
        ((";".join(map(str, range(MAX_CLASSES + 1))),), {}, "Found 65,536 classes.*at most 65,535"),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(
    model: GenLangSplatModel, texts: tuple[str, ...], flags: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        label(tmp_path / "out", *texts, **flags)
    assert not list(tmp_path.rglob("*.*"))


def test_existing_labels_are_kept(model: GenLangSplatModel, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("kept")
    with pytest.raises(GenLangSplatError, match=r"exists.*--overwrite"):
        label(tmp_path, "left")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]
    assert (tmp_path / "labels.json").read_text() == "kept"


def test_a_run_without_language_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = two_clouds()
    model.in_language_phase = False
    monkeypatch.setattr(Label, "open", lambda self: language_scene(model))
    with pytest.raises(GenLangSplatError, match="no language phase"):
        label(tmp_path / "out", "left")
    assert not list(tmp_path.rglob("*.*"))
