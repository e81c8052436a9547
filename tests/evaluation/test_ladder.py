"""The ladder: sound roads keep all rungs near one, and a crossed wire shows as the rung that it breaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import TextTarget
from genlangsplat_ns.evaluation.labels import LabeledMask, ViewLabels
from genlangsplat_ns.evaluation.ladder import PaintedRun, broken_rungs, climb, paint_labels, shuffled
from genlangsplat_ns.evaluation.protocols import THRESHOLD
from genlangsplat_ns.language.query import TextQuery

TARGETS = [TextTarget("a cup", "cup"), TextTarget("a book", "book")]
QUERY = TextQuery(("unused",))


@pytest.fixture
def painted(make_run, labels):
    """Paints the labels with the words' own directions, seen through a map of latents to embeddings."""
    run = make_run()
    vectors = run.encoder.encode_texts(["a cup", "a book", "nothing"])

    def paint(decode=lambda rows: rows):
        return PaintedRun(run, labels, ("cup", "book"), vectors, decode)

    return run, paint


def test_sound_rungs_score_one_and_shuffled_texts_nothing(painted, labels):
    run, paint = painted
    both = [view for view in run.views("all") if view.name == "0001.png"]
    ladder = climb({"painted": paint(), "rendered": run}, both, labels, TARGETS, QUERY, THRESHOLD)
    assert [(rung.name, rung.localization, rung.miou) for rung in ladder] == [("painted", 1, 1), ("rendered", 1, 1)]
    assert all(rung.shuffled_localization == 0 and rung.shuffled_miou == 0 for rung in ladder)
    assert broken_rungs(ladder) == []


def test_a_crossed_wire_breaks_its_own_rung(painted, labels):
    run, paint = painted

    def crossed(rows):
        return rows[:, [0, 2, 1, *range(3, rows.shape[1])]]

    rungs = {"painted": paint(), "decoded": paint(crossed), "rendered": run}
    ladder = climb(rungs, run.views("all"), labels, TARGETS, QUERY, THRESHOLD)
    assert broken_rungs(ladder) == ["decoded"]
    assert ladder[1].shuffled_localization == 1, "With two objects the other text finds what the right one lost."


def test_a_road_that_is_broken_from_the_start_shows_on_the_first_rung(painted, labels):
    run, paint = painted
    ladder = climb({"painted": paint(torch.zeros_like)}, run.views("all"), labels, TARGETS, QUERY, THRESHOLD)
    assert broken_rungs(ladder) == ["painted"]


def test_every_shuffle_gives_each_object_the_text_of_another():
    targets = [TextTarget(name, name) for name in "abcdef"]
    for seed in range(20):
        others = shuffled(targets, seed)
        assert [target.category for target in others] == list("abcdef")
        assert sorted(target.text for target in others) == list("abcdef")
        assert all(target.text != target.category for target in others)
    with pytest.raises(GenLangSplatError, match="two objects"):
        shuffled(targets[:1], 0)


def test_small_objects_are_painted_over_large_ones():
    large, small = np.ones((4, 6), bool), np.zeros((4, 6), bool)
    small[1, 2] = True
    view = ViewLabels("a", 6, 4, (LabeledMask("small", small), LabeledMask("large", large)))
    owners = paint_labels(view, ("large", "small"), 6, 4)
    assert owners[1, 2] == 1 and int((owners == 0).sum()) == 23
    assert int(paint_labels(view, ("small",), 6, 4)[0, 0]) == 1, "What is not a category is the rest."


def test_a_vector_for_the_rest_is_needed(painted, labels):
    run, _ = painted
    with pytest.raises(GenLangSplatError, match="one for the rest"):
        PaintedRun(run, labels, ("cup", "book"), torch.eye(2), lambda rows: rows)
