"""The stage check: sound stages score close to 1, and a defect shows at the stage that has it."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import TextTarget
from genlangsplat_ns.evaluation.labels import LabeledMask, ViewLabels
from genlangsplat_ns.evaluation.protocols import THRESHOLD
from genlangsplat_ns.language.query import TextQuery
from tests.evaluation import conftest as evaluation

labels, make_run = evaluation.labels, evaluation.make_run

TARGETS = [TextTarget("a cup", "cup"), TextTarget("a book", "book")]
QUERY = TextQuery(("unused",))


@pytest.fixture
def stages(benchmarks_importable: None) -> ModuleType:
    from support import stage_check

    return stage_check


@pytest.fixture
def painted(make_run, labels, stages):
    """A run, and a function that makes a ground-truth run with a given decoder."""
    run = make_run()
    vectors = run.encoder.encode_texts(["a cup", "a book", "nothing"])

    def paint(decode=lambda rows: rows):
        return stages.GroundTruthRun(run, labels, ("cup", "book"), vectors, decode)

    return run, paint


def test_sound_stages_score_one_and_shuffled_texts_find_nothing(painted, labels, stages):
    run, paint = painted
    both = [view for view in run.views("all") if view.name == "0001.png"]
    found = stages.run_stages({"painted": paint(), "rendered": run}, both, labels, TARGETS, QUERY, THRESHOLD)
    assert [(stage.name, stage.localization, stage.miou) for stage in found] == [("painted", 1, 1), ("rendered", 1, 1)]
    assert all(stage.shuffled_localization == 0 and stage.shuffled_miou == 0 for stage in found)
    assert stages.failing_stages(found) == []


def test_a_defect_shows_at_its_own_stage(painted, labels, stages):
    run, paint = painted

    def crossed(rows):
        return rows[:, [0, 2, 1, *range(3, rows.shape[1])]]

    runs = {"painted": paint(), "decoded": paint(crossed), "rendered": run}
    found = stages.run_stages(runs, run.views("all"), labels, TARGETS, QUERY, THRESHOLD)
    assert stages.failing_stages(found) == ["decoded"]
    assert found[1].shuffled_localization == 1, "With two objects, each text finds the other object."


def test_a_defect_in_the_first_stage_shows_there(painted, labels, stages):
    run, paint = painted
    found = stages.run_stages({"painted": paint(torch.zeros_like)}, run.views("all"), labels, TARGETS, QUERY, THRESHOLD)
    assert stages.failing_stages(found) == ["painted"]


def test_every_shuffle_gives_each_object_the_text_of_another(stages):
    targets = [TextTarget(name, name) for name in "abcdef"]
    for seed in range(20):
        others = stages.shuffle_texts(targets, seed)
        assert [target.category for target in others] == list("abcdef")
        assert sorted(target.text for target in others) == list("abcdef")
        assert all(target.text != target.category for target in others)
    with pytest.raises(GenLangSplatError, match="two objects"):
        stages.shuffle_texts(targets[:1], 0)


def test_small_objects_win_over_large_ones(stages):
    large, small = np.ones((4, 6), bool), np.zeros((4, 6), bool)
    small[1, 2] = True
    view = ViewLabels("a", 6, 4, (LabeledMask("small", small), LabeledMask("large", large)))
    indices = stages.category_map(view, ("large", "small"), 6, 4)
    assert indices[1, 2] == 1 and int((indices == 0).sum()) == 23
    assert int(stages.category_map(view, ("small",), 6, 4)[0, 0]) == 1, "Pixels of other categories count as unlabeled."


def test_a_vector_for_the_unlabeled_rest_is_required(painted, labels, stages):
    run, _ = painted
    with pytest.raises(GenLangSplatError, match="one for the rest"):
        stages.GroundTruthRun(run, labels, ("cup", "book"), torch.eye(2), lambda rows: rows)
