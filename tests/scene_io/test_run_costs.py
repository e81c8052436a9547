"""A resumed run counts the part before its checkpoint once."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from genlangsplat_ns.scene_io.run_costs import RunCosts, RunPart, merge_stages
from genlangsplat_ns.utils.stopwatch import StageCost


def part(first: int, end: int, **seconds: int) -> RunPart:
    return RunPart(first, end, {name: StageCost(float(value), 2.0 * value, 1.0) for name, value in seconds.items()})


def test_a_resumed_run_continues_from_the_costs_at_its_checkpoint(tmp_path: Path) -> None:
    first = RunCosts()
    first.save(tmp_path, part(0, 100, train=10), checkpoint=99)
    first.save(tmp_path, part(0, 200, train=20), checkpoint=199)
    # The process goes on until it is killed; these steps are lost.
    first.save(tmp_path, part(0, 290, train=29))
    second = RunCosts.resume(tmp_path, 199)
    assert second.resumed_from == 199 and second.earlier_known
    assert second.parts(part(200, 300, train=10))[0] == part(0, 200, train=20)
    assert merge_stages(second.parts(part(200, 300, train=10)))["train"] == StageCost(30.0, 60.0, 1.0)


def test_a_run_can_be_resumed_from_an_older_checkpoint_and_more_than_once(tmp_path: Path) -> None:
    first = RunCosts()
    for step in (99, 199):
        first.save(tmp_path, part(0, step + 1, train=step + 1), checkpoint=step)
    second = RunCosts.resume(tmp_path, 99)
    second.save(tmp_path, part(100, 150, train=5), checkpoint=149)
    assert RunCosts.resume(tmp_path, 149).earlier == [part(0, 100, train=100), part(100, 150, train=5)]
    assert RunCosts.resume(tmp_path, 199).earlier == [], "that checkpoint was replaced"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"checkpoints": {"9": [{}]}}', '{"checkpoints": {}}'])
def test_without_a_usable_file_the_earlier_costs_are_unknown(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "costs.json").write_text(content)
    costs = RunCosts.resume(tmp_path, 9)
    assert costs.resumed_from == 9 and not costs.earlier_known and costs.earlier == []


def test_the_file_is_json_and_a_folder_that_cannot_be_written_is_only_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    RunCosts().save(tmp_path, part(0, 10, train=1), checkpoint=9)
    assert json.loads((tmp_path / "costs.json").read_text())["parts"][0]["stages"]["train"]["wall_seconds"] == 1
    with caplog.at_level(logging.WARNING):
        RunCosts().save(tmp_path / "costs.json", part(0, 10))
    assert "could not be written" in caplog.text
