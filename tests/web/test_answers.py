"""The scores that the page gets lead to the relevancy that every command computes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.answers import join_levels
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.relevancy import relevancy_of_cosines
from genlangsplat_ns.web.answers import TextAnswers, relevancy_scores
from genlangsplat_ns.web.page_scene import PageScene
from tests.scene.language_scenes import UNSEEN, NamedDirections
from tests.web.pages import page_scene


@pytest.fixture(scope="module")
def page() -> PageScene:
    return PageScene.of(page_scene())


class Counting(NamedDirections):
    """Notes what it embeds."""

    def __init__(self, page: PageScene) -> None:
        super().__init__(page.scene.model)
        self.asked: list[list[str]] = []
        manager: Any = page.scene.datamanager
        manager.extractor = SimpleNamespace(load_text_encoder=lambda: self)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.asked.append(list(texts))
        return super().encode_texts(texts)


def test_the_relevancy_of_the_bytes_is_that_of_the_field(page: PageScene) -> None:
    query = TextQuery(("left", "right"))
    texts = (*query.texts, *query.negatives)
    read = np.stack([scores.values() for scores in TextAnswers(page).cosines(texts)])
    cosines = torch.from_numpy(np.nan_to_num(read, nan=-1)).permute(2, 1, 0)
    relevancy = relevancy_of_cosines(cosines[..., :2], cosines[..., 2:], query.temperature)
    relevancy[torch.from_numpy(np.isnan(read[0])).T] = 0
    field = page.scene.field
    joined = join_levels(relevancy, field.opacities, query.level)[0]
    # Half a step of both cosines, times the temperature, times the steepest slope of the sigmoid.
    torch.testing.assert_close(joined, field.relevancy(page.scene.embed(query))[0], atol=0.02, rtol=0)


def test_gaussians_that_were_never_seen_are_zero_at_every_level(page: PageScene) -> None:
    (scores,) = TextAnswers(page).cosines(["left"])
    assert scores.planes.shape == (3, len(page.rows))
    assert (scores.planes[:, -UNSEEN:] == 0).all() and (scores.planes[:, :-UNSEEN] > 0).all()


def test_another_order_of_the_page_is_that_of_its_scores(page: PageScene) -> None:
    rows = torch.randperm(len(page.rows), generator=torch.Generator().manual_seed(0))[:100]
    (every,), (some,) = (TextAnswers(each).cosines(["left"]) for each in (page, PageScene(page.scene, rows)))
    # The limits of the planes are of the Gaussians of each page.
    assert np.nanmax(np.abs(every.values()[:, rows.numpy()] - some.values())) < 0.01


def test_a_text_is_embedded_and_scored_once() -> None:
    page = PageScene.of(page_scene())
    encoder = Counting(page)
    answers = TextAnswers(page)
    first = answers.cosines(["left", " a fox ", "left"])
    again = answers.cosines(["a fox"])
    assert encoder.asked == [["left", "a fox"]]
    assert again[0] is first[1] and first[0] is first[2]
    answers.cosines(["a fox"], prompts=True)
    assert len(encoder.asked) == 2


def test_the_texts_asked_longest_ago_are_forgotten() -> None:
    page = PageScene.of(page_scene())
    size = 3 * len(page.rows)
    answers = TextAnswers(page, cache_bytes=2 * size)
    one, _ = answers.cosines(["one", "two"])
    assert answers.cosines(["one"])[0] is one
    answers.cosines(["three"])
    assert answers.cosines(["one"])[0] is one
    assert len(answers._known) == 2 and answers._size == 2 * size


def test_more_texts_than_are_kept_are_answered(page: PageScene) -> None:
    answers = TextAnswers(page, cache_bytes=1)
    assert [scores.text for scores in answers.cosines(["left", "right"])] == ["left", "right"]


def test_a_stopped_server_does_not_score_all_texts_first(page: PageScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genlangsplat_ns.web.answers.MAX_NUMBERS", 1)
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(len(asked) == 2)
        return asked[-1]

    with pytest.raises(GenLangSplatError, match="stopped before"):
        TextAnswers(page, stopped=stopped).cosines(["a", "b", "c", "d", "e"])
    assert asked == [False, False, True]


@pytest.mark.parametrize(
    ("texts", "message"), [([], "no text"), ([" "], "blank"), (["left", "x" * 10_000], "10,000 characters")]
)
def test_bad_texts_are_refused(page: PageScene, texts: list[str], message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        TextAnswers(page).cosines(texts)


def test_relevancy_has_one_plane_from_0_to_1(page: PageScene) -> None:
    query = page.scene.embed(TextQuery(("left", "right"), level="whole"))
    scores = relevancy_scores(page, query)
    expected = page.scene.field.relevancy(query)[0].T.numpy()
    assert [each.limits for each in scores] == [((0.0, 1.0),)] * 2
    read = np.concatenate([np.nan_to_num(each.values()) for each in scores])
    assert np.abs(read - expected).max() <= 0.5001 / 254
