"""`gen-langsplat evaluate` and the metrics of ns-eval on a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nerfstudio.utils.eval_utils import eval_setup
from PIL import Image

from genlangsplat_ns.commands.evaluate import Evaluate
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.settings import EvaluationSettings
from genlangsplat_ns.utils.files import file_sha256

LEAST_KEYS = {
    *("config", "protocol", "split", "seeds", "autoencoder", "checkpoint_sha256", "geometry", "macro", "micro"),
    *("queries", "version", "labels"),
}


def evaluate_run(
    config: Path,
    output_dir: Path,
    labels: Path | None = None,
    protocols: tuple[str, ...] = (),
    decoder: Any = None,
    **settings: Any,
) -> dict[str, Any]:
    """Runs the command and returns the written document."""
    how = EvaluationSettings(labels=labels, protocol=protocols, **settings)
    Evaluate(load_config=config, output_dir=output_dir, decoder=decoder, settings=how)()
    document: dict[str, Any] = json.loads((output_dir / "evaluation.json").read_text())
    return document


@pytest.fixture(scope="module")
def config(tiny_run: LanguageScene) -> Path:
    return tiny_run.stored.config_path


@pytest.fixture
def labels(tiny_scene: Path, tmp_path: Path) -> Path:
    """A copy of the labels of the tiny scene, which tests may modify."""
    return Path(shutil.copytree(tiny_scene / "labels", tmp_path / "given"))


def test_tables_json_and_page_are_written(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = evaluate_run(config, tmp_path / "out")
    assert written.keys() >= LEAST_KEYS
    assert written["protocol"] == "langsplat-lerf" and written["seeds"] == {"training": 42}
    (checkpoint,) = config.parent.glob("nerfstudio_models/*.ckpt")
    assert written["checkpoint_sha256"] == file_sha256(checkpoint)
    assert 5 < written["geometry"]["psnr"] < 60 and 0 < written["geometry"]["ssim"] <= 1
    assert set(written["labels"]["frames"].values()) == {"train", "eval"}
    assert len(written["labels"]["in_training"]) == 8
    for protocol in written["protocols"].values():
        assert protocol["all"]["pairs"] == protocol["train"]["pairs"] + protocol["eval"]["pairs"] > 0
        assert 0 <= protocol["all"]["micro"]["miou"] <= 1
    assert written["protocols"]["gaussian-selection"]["all"]["micro"]["localization"] is None
    page = (tmp_path / "out" / "report.html").read_text()
    assert "No paper reports results on this scene" in page and "http" not in page
    assert "8 of 10 labeled views are training views" in " ".join(capsys.readouterr().out.split())


def test_splatted_scores_are_close_to_decoded_pixels(config: Path, tmp_path: Path) -> None:
    rendered, drawn = (
        evaluate_run(config, tmp_path / mode, protocols=("threshold",), mode=mode) for mode in ("rendered", "gaussian")
    )
    assert (rendered["mode"], drawn["mode"]) == ("rendered", "gaussian")
    pairs = list(zip(rendered["queries"], drawn["queries"], strict=True))
    assert all((one["view"], one["text"]) == (other["view"], other["text"]) for one, other in pairs)
    assert np.mean([abs(one["score"] - other["score"]) for one, other in pairs]) < 0.05
    assert abs(rendered["micro"]["miou"] - drawn["micro"]["miou"]) < 0.1


def test_both_decoders_are_evaluated(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = evaluate_run(config, tmp_path, protocols=("threshold",), decoder="both")
    capsys.readouterr()
    assert document["decoder"] == "memory" and list(document["decoders"]) == ["memory", "autoencoder"]
    assert document["decoders"]["memory"]["threshold"] == {
        split: document["protocols"]["threshold"][split] for split in ("all", "eval", "train")
    }
    alone = evaluate_run(config, tmp_path / "alone", protocols=("threshold",), decoder="autoencoder")
    output = capsys.readouterr().out
    assert alone["decoder"] == "autoencoder" and "decoders" not in alone and "memory" not in output
    assert document["decoders"]["autoencoder"]["threshold"]["all"] == alone["protocols"]["threshold"]["all"]


def test_named_protocols_are_used_in_their_order(config: Path, tmp_path: Path) -> None:
    document = evaluate_run(config, tmp_path, protocols=("threshold", "occam-lerf"))
    assert list(document["protocols"]) == ["threshold", "occam-lerf"] and document["protocol"] == "threshold"


def test_labeled_views_can_be_held_out_of_the_lift(config: Path, labels: Path, tmp_path: Path) -> None:
    # The labels of one training view and of the held-out views.
    scene = open_run(config)
    kept = [scene.views(split)[0].name for split in ("train", "eval")]
    for path in labels.glob("*.json"):
        if path.stem not in {Path(name).stem for name in kept}:
            path.unlink()
    whole, held_out = (
        evaluate_run(config, tmp_path / str(flag), labels, ("threshold",), holdout_labeled=flag)
        for flag in (False, True)
    )
    assert held_out["labels"]["held_out_of_lifting"] and set(held_out["labels"]["frames"]) == set(kept)
    scores = [[query["score"] for query in document["queries"]] for document in (whole, held_out)]
    assert scores[0] != scores[1]


def test_labels_without_a_view_are_listed(
    config: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(labels.glob("*.json"))
    document = json.loads(path.read_text())
    document["info"]["name"] = "frame_99999.png"
    (labels / "frame_99999.json").write_text(json.dumps(document))
    found = evaluate_run(config, tmp_path / "out", labels, ("threshold",))
    assert found["labels"]["no_such_view"] == ["frame_99999"]
    assert "1 labeled views are not in this scene: frame_99999" in " ".join(capsys.readouterr().out.split())


def test_labels_of_another_data_set_are_refused(config: Path, labels: Path, tmp_path: Path) -> None:
    for path in labels.glob("*.json"):
        document = json.loads(path.read_text())
        document["info"]["name"] = f"other_{document['info']['name']}"
        path.write_text(json.dumps(document))
    with pytest.raises(GenLangSplatError, match="None of the 10 views has labels"):
        evaluate_run(config, tmp_path / "out", labels)
    assert not (tmp_path / "out").exists()


def test_labels_of_another_shape_than_the_photograph_are_refused(config: Path, labels: Path, tmp_path: Path) -> None:
    path = next(labels.glob("*.json"))
    document = json.loads(path.read_text())
    document["info"]["width"], document["info"]["height"] = document["info"]["height"], document["info"]["width"]
    path.write_text(json.dumps(document))
    with pytest.raises(GenLangSplatError, match="not the same shape"):
        evaluate_run(config, tmp_path / "out", labels)


def test_labels_of_another_image_with_the_same_name_are_refused(
    config: Path, labels: Path, tiny_scene: Path, tmp_path: Path
) -> None:
    stem = next(iter(read_label_set(labels).views))
    photograph = next((tiny_scene / "images").glob(f"{stem}.*"))
    own = Image.open(photograph).convert("RGB")
    own.save(labels / f"{stem}.jpg")
    evaluate_run(config, tmp_path / "own", labels, ("threshold",))
    Image.fromarray(255 - np.asarray(own)).save(labels / f"{stem}.jpg")
    with pytest.raises(GenLangSplatError, match="another scene with the same file names"):
        evaluate_run(config, tmp_path / "out", labels, ("threshold",))


def test_masks_are_scored_like_outlines(config: Path, labels: Path, tmp_path: Path) -> None:
    for stem, view in read_label_set(labels).views.items():
        for category in view.categories:
            # Twice as large as the photographs, like the masks of some data sets.
            mask = view.truth(category).mask.repeat(2, axis=0).repeat(2, axis=1)
            path = tmp_path / "segmentations" / stem / f"{category}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    outlines, masks = (
        evaluate_run(config, tmp_path / folder.name, folder, ("threshold",))
        for folder in (labels, tmp_path / "segmentations")
    )
    assert masks["labels"]["kind"] == "masks"
    assert masks["micro"]["miou"] == pytest.approx(outlines["micro"]["miou"], abs=0.01)


def test_the_error_about_missing_labels_names_the_folders(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genlangsplat_ns.scene.evaluation.find_scene_labels", lambda scene: None)
    with pytest.raises(GenLangSplatError, match="--labels FOLDER"):
        evaluate_run(config, tmp_path)


def test_ns_eval_writes_all_answers_and_the_means(config: Path, tmp_path: Path) -> None:
    _, pipeline, _, _ = eval_setup(config)
    means = pipeline.get_average_eval_image_metrics(output_path=tmp_path)
    details = json.loads((tmp_path / "language_metrics.json").read_text())
    assert {"psnr", "ssim", "lang_cosine", "lang_l1", "miou", "localization"} <= means.keys()
    assert all(np.isfinite(value) for value in means.values())
    assert len(details["views"]) == 2
    assert all(view.keys() == {"lang_cosine", "lang_l1"} for view in details["views"].values())
    assert np.mean([query["iou"] for query in details["queries"]]) == pytest.approx(means["miou"])
    assert np.mean([query["hit"] for query in details["queries"]]) == pytest.approx(means["localization"])
