"""Levels are combined by the level rule, and answers have a peak, a score and a mask."""

from __future__ import annotations

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.answers import LevelChoice, answer_texts, choose_level, join_levels, read_answer
from genlangsplat_ns.language.query import TextQuery

LEVEL_MAPS = torch.tensor([[[0.2, 0.4], [0.0, 0.6]], [[0.4, 0.9], [0.0, 0.6]], [[0.6, 0.2], [0.5, 0.6]]])


def test_mean_averages_the_nonzero_levels():
    choice = choose_level(LEVEL_MAPS, "mean")
    assert choice.name == "mean"
    torch.testing.assert_close(choice.map, torch.tensor([[0.4, 0.5], [0.5, 0.6]]))


def test_auto_takes_the_level_with_the_highest_raw_peak():
    choice = choose_level(LEVEL_MAPS, "auto")
    assert choice.name == "part"
    torch.testing.assert_close(choice.map, LEVEL_MAPS[1])


def test_auto_takes_the_first_of_tied_levels():
    assert choose_level(torch.stack([LEVEL_MAPS[1], LEVEL_MAPS[1], LEVEL_MAPS[0]]), "auto").name == "subpart"


def test_a_named_level_is_taken_as_it_is():
    torch.testing.assert_close(choose_level(LEVEL_MAPS, "whole").map, LEVEL_MAPS[2])
    with pytest.raises(GenLangSplatError, match="2 levels"):
        choose_level(LEVEL_MAPS[:2], "whole")


def test_answers_have_score_peak_and_mask_of_their_text():
    maps = torch.stack([LEVEL_MAPS, LEVEL_MAPS.flip(-1)])
    answers = answer_texts(maps, TextQuery(("one", "two"), level="part", threshold=0.5))
    assert [answer.text for answer in answers] == ["one", "two"]
    assert answers[0].peak == (1, 0) and answers[1].peak == (0, 0)
    assert answers[0].score == pytest.approx(0.9)
    assert answers[0].mask.tolist() == [[False, True], [False, True]]
    assert answers[0].level == "part"


def test_the_mask_is_strictly_above_the_threshold():
    answer = answer_texts(torch.full((1, 3, 2, 2), 0.5), TextQuery(("one",), threshold=0.5))[0]
    assert not answer.mask.any()


def test_the_peak_is_the_first_in_reading_order_on_ties():
    tied = LevelChoice("part", torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    assert read_answer("a cup", tied, 0.5).peak == (2, 0)


def test_levels_are_combined_by_the_rule_of_the_query():
    scores = torch.tensor([[0.2, 0.6, 0.0], [0.9, 0.1, 0.5], [0.0, 0.0, 0.0]])[..., None]
    opacities = torch.ones(3)
    mean, names = join_levels(scores, opacities, "mean")
    torch.testing.assert_close(mean[:, 0], torch.tensor([0.4, 0.5, 0.0]))
    assert names == ("mean",)
    assert torch.equal(join_levels(scores, opacities, "whole")[0], scores[:, 2])
    assert join_levels(scores, opacities, "auto")[1] == ("subpart",)


def test_the_automatic_level_ignores_transparent_gaussians():
    scores = torch.tensor([[0.99, 0.1, 0.1], [0.2, 0.8, 0.3]])[..., None]
    joined, names = join_levels(scores, torch.tensor([0.01, 0.9]), "auto")
    assert names == ("part",) and torch.equal(joined, scores[:, 1])
