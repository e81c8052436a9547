"""Killed commands lose nothing, leave nothing, and end with the same result when they run again."""

from __future__ import annotations

import pytest

from tests.robustness.kills import Workplace, is_whole, kill_stage, spread
from tests.robustness.stages import KILLED, Stage

KILLS = 40
"""All kills of this file; `benchmarks/robustness.py --parts kills` makes more."""

SEED = 24


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "kills"), list(zip(KILLED, spread(KILLS, len(KILLED)), strict=True)), ids=[each.name for each in KILLED]
)
def test_a_killed_command_loses_nothing_and_ends_the_same(workplace: Workplace, stage: Stage, kills: int) -> None:
    figures = kill_stage(workplace, stage, kills, SEED)
    assert figures.findings == []
    assert figures.kills == kills and figures.midway >= kills // 2


def test_half_a_file_is_told_from_a_whole_one() -> None:
    assert is_whole("a.json", b'{"x": 1}') and not is_whole("a.json", b'{"x": ')
    assert is_whole("a.html", b"<html></html>\n") and not is_whole("a.html", b"<html>")
    assert not is_whole("a.ckpt", b"PK\x03\x04") and not is_whole("a.png", b"\x89PNG") and not is_whole("a.ply", b"ply")
