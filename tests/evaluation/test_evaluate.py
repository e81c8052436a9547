"""Evaluating a run: a perfect field scores one, wrong texts find nothing, and views are matched by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import TextTarget, evaluate_views
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_3DOVS, LANGSPLAT_LERF, THRESHOLD
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.query import TextQuery
from tests.demo.stand_in import StandInRun

TARGETS = [TextTarget("a cup", "cup"), TextTarget("a book", "book")]


def test_a_perfect_field_scores_one_under_the_threshold_protocol(make_run, labels):
    run = make_run()
    evaluation = evaluate_views(run, run.views("all"), labels, TARGETS)
    held_out = evaluation.summary("threshold", "eval")
    assert held_out["pairs"] == 1 and held_out["micro"] == {"localization": 1.0, "miou": 1.0, "acc_iou25": 1.0}
    training = evaluation.summary("threshold", "train")
    assert training["pairs"] == 2 and training["macro"] == {"localization": 1.0, "miou": 1.0, "acc_iou25": 1.0}
    lerf = evaluation.summary("langsplat-lerf", "train")
    assert lerf["micro"]["localization"] == 1.0 and lerf["micro"]["miou"] > 0.6


def test_texts_of_other_objects_find_nothing(make_run, labels):
    run = make_run({"a cup": "book", "a book": "cup"})
    evaluation = evaluate_views(run, run.views("train"), labels, TARGETS)
    assert evaluation.summary("threshold", "train")["micro"] == {"localization": 0.0, "miou": 0.0, "acc_iou25": 0.0}


def test_blank_latents_find_nothing(make_run, labels):
    run = make_run()
    run.latents = lambda view: torch.zeros(48, 64, 12)
    evaluation = evaluate_views(run, run.views("all"), labels, TARGETS)
    for protocol in (THRESHOLD, LANGSPLAT_LERF):
        assert evaluation.summary(protocol.name, "train")["micro"] == {
            "localization": 0.0,
            "miou": 0.0,
            "acc_iou25": 0.0,
        }
    assert all(score.peak is None for score in evaluation.scores)


def test_texts_are_asked_only_where_their_object_is_labeled(make_run, labels):
    run = make_run()
    evaluation = evaluate_views(run, run.views("all"), labels, TARGETS, protocols=[THRESHOLD])
    assert [(score.view, score.text) for score in evaluation.scores] == [
        ("0001.png", "a cup"),
        ("0001.png", "a book"),
        ("0002.png", "a cup"),
    ]


def test_without_targets_the_categories_are_asked(make_run, labels):
    run = make_run()
    evaluation = evaluate_views(run, run.views("all"), labels, protocols=[THRESHOLD])
    assert {score.text for score in evaluation.scores} == {"cup", "book"}


def test_views_are_matched_by_name_and_the_rest_is_reported(make_run, labels):
    run = make_run()
    evaluation = evaluate_views(run, reversed(run.views("eval")), labels, TARGETS)
    assert evaluation.unmatched == ("0001",)
    assert evaluation.summary("threshold", "eval")["micro"]["localization"] == 1.0
    assert evaluation.summary("threshold", "train") == {"pairs": 0, "micro": None, "macro": None, "texts": []}


def test_labels_of_another_size_are_scaled_to_the_rendering(make_run, labels):
    run = make_run()
    doubled = {name: view.resized(128, 96) for name, view in labels.items()}
    micro = evaluate_views(run, run.views("all"), doubled, TARGETS).summary("threshold", "train")["micro"]
    assert micro["localization"] == 1.0 and micro["miou"] > 0.95


def test_the_query_decides_threshold_and_level(make_run, labels):
    run = make_run()
    strict = TextQuery(("unused",), threshold=1.0, level="part")
    evaluation = evaluate_views(run, run.views("train"), labels, TARGETS, strict, protocols=[THRESHOLD])
    assert all(score.iou == 0 and score.hit and score.level == "part" for score in evaluation.scores)


def test_psnr_is_measured_on_the_rendered_views(make_run, labels):
    run = make_run()
    evaluation = evaluate_views(run, run.views("all"), labels, TARGETS)
    assert set(evaluation.psnr) == {"0001.png", "0002.png", "0003.png"}
    assert all(35 < value < 45 for value in evaluation.psnr.values()), "Noise of 0.01 gives 40 dB."


def test_every_answer_is_shown_to_the_observer(make_run, labels):
    run = make_run()
    seen = []
    evaluate_views(run, run.views("all"), labels, TARGETS, observe=seen.append)
    assert [answer.scores[0].text for answer in seen] == ["a cup", "a book", "a cup"]
    assert seen[0].rgb.shape == (48, 64, 3) and len(seen[0].predictions) == 2


def test_nothing_to_evaluate_is_an_error_with_its_reason(make_run, labels):
    run = make_run()
    with pytest.raises(GenLangSplatError, match="matched by file name"):
        evaluate_views(run, run.views("all"), {"frame_9": labels["0001"]}, TARGETS)
    with pytest.raises(GenLangSplatError, match="shows a category"):
        evaluate_views(run, run.views("all"), labels, [TextTarget("a dog", "dog")])
    with pytest.raises(GenLangSplatError, match="no object"):
        evaluate_views(run, run.views("all"), {"0003": labels["0003"]})


class RunOfPixels(StandInRun):
    """Every pixel of every view is a Gaussian that is visible in no other view."""

    @property
    def field(self):
        latents = torch.cat([self.render(view).latents.flatten(0, 1) for view in self.views("all")])
        return LanguageField(torch.zeros(len(latents), 3), torch.ones(len(latents)), latents, self.decode)

    def render_opacity(self, view, selected):
        raise NotImplementedError

    def render_rgb(self, view):
        return self.render(view).rgb

    def render_scores(self, view, scores):
        number, (height, width) = self.views("all").index(view), self.image(view).shape[:2]
        return scores.unflatten(0, (-1, height, width))[number]


def test_scores_of_gaussians_agree_with_decoded_pixels(make_run, labels):
    run = make_run(kind=RunOfPixels)
    rendered, drawn = (evaluate_views(run, run.views("all"), labels, mode=mode) for mode in ("rendered", "gaussian"))
    assert len(rendered.scores) == len(drawn.scores) == 6
    for expected, found in zip(rendered.scores, drawn.scores, strict=True):
        assert found.score == pytest.approx(expected.score, abs=1e-3)
        assert (found.iou, found.hit, found.peak) == (expected.iou, expected.hit, expected.peak)


@pytest.mark.parametrize("mode", ["rendered", "gaussian"])
def test_masked_pixels_are_neither_labeled_nor_predicted(make_run, labels, mode):
    """A field that finds the cup in all pixels of the lower half is right if the lower half is masked."""
    run = make_run(kind=RunOfPixels)
    full, kept = run.latents, torch.ones(48, 64, dtype=torch.bool)
    kept[24:] = False
    answers = torch.zeros(48, 64, 12) + run.encoder.direction("cup")
    run.latents = lambda view: torch.where(kept[..., None], full(view), answers)
    views, protocols = run.views("train"), [THRESHOLD, LANGSPLAT_LERF]

    def evaluate():
        shown = []
        found = evaluate_views(run, views, labels, TARGETS, protocols=protocols, observe=shown.append, mode=mode)
        return found, shown

    counted, _ = evaluate()
    run.mask = lambda view: kept
    masked, shown = evaluate()
    assert counted.masked == () and masked.masked == ("0001.png",)
    cup = {name: found.chosen("threshold", "train")[0] for name, found in (("all", counted), ("kept", masked))}
    assert cup["all"].iou < 0.5 and cup["kept"].iou == 1.0
    for answer in shown:
        assert not answer.truth.mask[24:].any()
        assert not any(prediction.mask[24:].any() for prediction in answer.predictions)
        assert answer.predictions[0].peaks and all(row < 24 for _, row in answer.predictions[0].peaks)


def test_a_label_under_the_mask_is_lost(make_run, labels):
    run = make_run()
    run.mask = lambda view: torch.from_numpy(~labels["0001"].truth("book").mask)
    evaluation = evaluate_views(run, run.views("train"), labels, TARGETS, protocols=[THRESHOLD])
    assert evaluation.lost == ("0001.png: a book",)
    assert [score.text for score in evaluation.scores] == ["a cup"]


@pytest.mark.parametrize("mode", ["rendered", "gaussian"])
def test_pixels_without_content_score_as_the_protocol_says(make_run, labels, mode):
    run = make_run(kind=RunOfPixels)
    full = run.latents
    run.latents = lambda view: full(view).index_fill(0, torch.arange(40, 48), 0.0)
    run.decode = lambda latents: torch.where(latents.any(dim=-1, keepdim=True), latents, run.encoder.direction("cup"))
    shown = []
    protocols = (LANGSPLAT_3DOVS, THRESHOLD, replace(LANGSPLAT_3DOVS, name="half", empty="half"))
    evaluate_views(run, run.views("train"), labels, TARGETS[:1], protocols=protocols, observe=shown.append, mode=mode)
    decoded, plain, half = (prediction.map[40:] for prediction in shown[0].predictions)
    assert (plain == 0).all() and (half == 0.5).all()
    assert (decoded > 0.99).all() and (decoded == decoded[0, 0]).all()


def test_a_run_without_gaussians_cannot_be_evaluated_in_gaussian_mode(make_run, labels):
    run = make_run()
    with pytest.raises(GenLangSplatError, match="mode rendered"):
        evaluate_views(run, run.views("all"), labels, mode="gaussian")
