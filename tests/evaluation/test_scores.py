"""Summaries of scores, and published scores."""

from __future__ import annotations

import pytest

from genlangsplat_ns.evaluation.published import PUBLISHED, is_published_scene, published_scores
from genlangsplat_ns.evaluation.scores import Evaluation, QueryScore, means


def score(view="a.png", text="cup", iou=0.5, hit: bool | None = True, split="eval", protocol="threshold") -> QueryScore:
    return QueryScore(view, split, text, text, protocol, "mean", iou, hit, None, 0.9)


def evaluation(*scores: QueryScore) -> Evaluation:
    return Evaluation(scores, {}, {"a.png": "eval"}, ())


def test_micro_weights_pairs_and_macro_weights_texts():
    summary = evaluation(
        score(iou=1.0), score("b.png", iou=0.0, hit=False), score("c.png", iou=0.5), score(text="book", iou=0.2)
    ).summary("threshold", "all")
    assert summary["pairs"] == 4
    assert summary["micro"] == pytest.approx({"localization": 3 / 4, "miou": 1.7 / 4, "acc_iou25": 2 / 4})
    assert summary["macro"] == pytest.approx({"localization": (2 / 3 + 1) / 2, "miou": 0.35, "acc_iou25": (2 / 3) / 2})
    assert [(text["text"], text["hits"], text["views"]) for text in summary["texts"]] == [("cup", 2, 3), ("book", 1, 1)]


def test_an_overlap_of_exactly_a_quarter_is_not_accurate():
    assert means({"cup": [score(iou=0.25), score(iou=0.26)]})["micro"]["acc_iou25"] == 0.5


def test_protocols_without_peaks_have_no_localization():
    summary = evaluation(score(hit=None), score("b.png", hit=None)).summary("threshold", "all")
    assert summary["micro"]["localization"] is None and summary["texts"][0]["hits"] is None
    assert summary["micro"]["miou"] == 0.5


def test_splits_and_protocols_are_summarized_separately():
    mixed = evaluation(score(iou=1.0), score(iou=0.0, split="train"), score(iou=0.3, protocol="other"))
    assert [mixed.summary("threshold", split)["pairs"] for split in ("all", "eval", "train")] == [2, 1, 1]
    assert mixed.summary("other", "eval")["micro"]["miou"] == 0.3
    assert mixed.summary("nothing", "all") == {"pairs": 0, "micro": None, "macro": None, "texts": []}


def test_published_figures_are_fractions_with_a_source():
    for published in PUBLISHED:
        figures = [published.localization, published.miou, published.acc_iou25]
        assert published.source and any(figure is not None for figure in figures)
        assert all(0 < figure < 1 for figure in figures if figure is not None)


def test_published_overalls_are_the_means_of_the_scenes():
    scenes = [row for row in PUBLISHED if row.dataset == "lerf-ovs" and row.source.startswith("Gen-LangSplat")]
    for method in {row.method for row in scenes}:
        own = [row for row in scenes if row.method == method]
        (overall,) = [row for row in own if row.scene == "overall"]
        mean = sum(row.miou or 0 for row in own if row is not overall) / 4
        assert mean == pytest.approx(overall.miou, abs=6e-4)


def test_scores_of_a_scene_include_the_overall_scores():
    assert {row.scene for row in published_scores("lerf-ovs", "ramen")} == {"ramen", "overall"}
    assert {row.scene for row in published_scores("3d-ovs", "kitchen")} == {"overall"}
    assert published_scores("masks", "ramen") == ()
    assert is_published_scene("lerf-ovs", "ramen") and not is_published_scene("3d-ovs", "ramen")
