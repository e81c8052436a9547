"""The demo from gallery to report with a stand-in for training: a perfect field scores one, wrong texts score zero."""

from __future__ import annotations

import json

import pytest

from genlangsplat_ns.commands.demo import print_results
from genlangsplat_ns.demo.gallery import QUERIES, GallerySettings
from genlangsplat_ns.demo.run import run_demo
from genlangsplat_ns.evaluation.label_folders import read_label_set
from tests.demo.stand_in import StandInRun, WordEncoder

SETTINGS = GallerySettings(num_views=10, width=160, height=120, num_points=500)
MEANINGS = {query.text: query.category for query in QUERIES}


def demo(folder, meanings):
    """Runs the demo with a run made of the outlines; `meanings` maps texts to categories in its encoder."""
    calls = []

    def train(data, run_folder):
        calls.append((data, run_folder))
        run_folder.mkdir()
        (run_folder / "config.yml").write_text("trained: true\n")
        return run_folder / "config.yml"

    def open_run(config):
        data, run_folder = calls[0]
        assert config.parent == run_folder and config.is_file()
        held_out = {name.split("/")[-1] for name in json.loads((data / "transforms.json").read_text())["val_filenames"]}
        return StandInRun(data / "images", read_label_set(data / "labels").views, WordEncoder(meanings), held_out)

    return run_demo(folder, train, open_run, SETTINGS)


@pytest.fixture(scope="module")
def perfect(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder, MEANINGS)


def test_a_perfect_field_finds_every_text(perfect):
    _, document = perfect
    assert document["localization"] == 1.0 and document["miou"] > 0.99
    assert document["micro"]["localization"] == document["macro"]["localization"] == 1.0
    assert document["texts_found"] == document["texts_asked"] == len(document["queries"])
    assert all(text["found"] and text["hits"] == text["views"] for text in document["queries"])
    lerf = document["protocols"]["langsplat-lerf"]["eval"]
    assert lerf["micro"]["localization"] > 0.9, "The 30 pixel filter is large for such a small image."


def test_texts_of_other_objects_find_nothing(tmp_path):
    categories = sorted(set(MEANINGS.values()))
    shifted = {text: categories[categories.index(c) - 1] for text, c in MEANINGS.items()}
    document = demo(tmp_path, shifted)
    # Where the wrong object is not visible, the peak is at a random position.
    assert document["localization"] < 0.2 and document["miou"] < 0.05 and document["texts_found"] == 0


def test_an_encoder_that_knows_no_text_scores_at_chance(tmp_path):
    document = demo(tmp_path, {})
    assert document["localization"] <= 0.2 and document["texts_found"] <= 2


def test_report_json_states_protocol_split_and_provenance(perfect):
    folder, document = perfect
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(document))
    assert document["split"] == "eval" and document["protocol"] == "threshold" and document["macro_over"] == "texts"
    assert document["encoder"] == "stand-in v1" and document["autoencoder"]["name"] == "identity"
    assert set(document["seconds"]) == {"gallery", "train", "open", "evaluate", "total"}
    assert 0 < document["peak_memory_gb"] < 200
    assert 35 < document["psnr"]["eval"] < 45
    assert {score["split"] for score in document["scores"]} == {"eval", "train"}


def test_held_out_and_training_views_are_scored_separately(perfect):
    _, document = perfect
    for protocol in document["protocols"].values():
        held_out, training = protocol["eval"]["pairs"], protocol["train"]["pairs"]
        assert held_out > 0 and training > 2 * held_out
    views = {score["view"]: score["split"] for score in document["scores"]}
    assert sorted(views.values()).count("eval") == 2 and len(views) == 10


def test_a_text_is_found_when_most_of_its_views_hit(perfect):
    _, document = perfect
    for text in document["queries"]:
        assert text["found"] == (text["hits"] > text["views"] / 2)


def test_page_and_overlays_show_the_held_out_answers(perfect):
    folder, document = perfect
    pairs = document["protocols"]["threshold"]["eval"]["pairs"]
    page = (folder / "report.html").read_text()
    assert page.count("<article>") == pairs
    assert len(list((folder / "overlays").glob("*.png"))) == pairs
    assert f"{len(document['queries'])} of {len(document['queries'])}" in page


def test_results_are_printed_for_every_text_and_split(perfect, capsys, monkeypatch):
    _, document = perfect
    monkeypatch.setenv("COLUMNS", "200")
    print_results(document)
    printed = capsys.readouterr().out
    assert [text["text"] for text in document["queries"] if text["text"] not in printed] == []
    assert "eval" in printed and "train" in printed
