"""A feature store remembers what each of its views cost."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from genlangsplat_ns.features.costs import ExtractionCosts, ViewCost
from genlangsplat_ns.utils.stopwatch import StageCost


def cost(regions: int, masks: float, embeddings: float) -> ViewCost:
    return ViewCost(regions, StageCost(masks, 2 * masks, 1.0), StageCost(embeddings, embeddings, 2.0))


def test_costs_are_stored_and_added_up_over_known_views_once(tmp_path: Path) -> None:
    costs = ExtractionCosts(tmp_path)
    costs.add("a", cost(3, 1.0, 2.0))
    costs.add("b", cost(4, 10.0, 20.0))
    costs.save()
    stored = ExtractionCosts(tmp_path)
    assert "a" in stored and "c" not in stored and stored["b"] == cost(4, 10.0, 20.0)
    assert stored.sum(["a", "b", "b", "c"]) == cost(7, 11.0, 22.0)


def test_a_second_extraction_adds_its_views(tmp_path: Path) -> None:
    for key in ("a", "b"):
        costs = ExtractionCosts(tmp_path)
        costs.add(key, cost(1, 1.0, 1.0))
        costs.save()
    assert ExtractionCosts(tmp_path).sum(["a", "b"]).regions == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 3}', '{"a": [1, 2]}'])
def test_a_damaged_file_is_said_and_holds_no_costs(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "costs.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        costs = ExtractionCosts(tmp_path)
    assert "a" not in costs and "damaged" in caplog.text


def test_a_folder_that_cannot_be_written_does_not_end_the_extraction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    costs = ExtractionCosts(tmp_path / "file")
    costs.add("a", cost(1, 1.0, 1.0))
    with caplog.at_level(logging.WARNING):
        costs.save()
    assert "could not be written" in caplog.text
