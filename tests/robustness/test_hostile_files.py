"""Changed files end in our error, in little time and memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.robustness.mutations import MUTATIONS, mutate_bytes, mutate_json, mutate_text

ROOT = Path(__file__).parents[2]

SHORT_LANE = 20_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure the memory")
def test_changed_files_end_in_our_error(tmp_path: Path) -> None:
    """In a process of its own, because a crash would end this one; the long lane has more inputs."""
    command = [sys.executable, "-m", "tests.robustness.fuzzing", "--inputs", str(SHORT_LANE), "--json", "figures.json"]
    done = subprocess.run(
        [*command[:-1], str(tmp_path / "figures.json")], cwd=ROOT, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["inputs"] >= 0.99 * SHORT_LANE
    assert {row["parser"]: row["findings"] for row in figures["rows"] if row["num_findings"]} == {}
    # A parser that refuses everything is not tested.
    assert [row["parser"] for row in figures["rows"] if not row["accepted"]] == []


@pytest.mark.parametrize("kind", MUTATIONS)
def test_changes_are_the_same_for_the_same_seed(kind: str) -> None:
    content = json.dumps({"a": [1, 2.5, {"b": "text"}], "c": None}).encode()
    made = [[MUTATIONS[kind](content, random.Random(number)) for number in range(100)] for _ in range(2)]
    assert made[0] == made[1] and len(set(made[0])) > 50


def test_changed_json_is_json_of_another_structure_most_of_the_time() -> None:
    content = json.dumps({"frames": [{"name": "a", "pose": [[1.0, 0.0], [0.0, 1.0]]}] * 3}).encode()
    parsed = 0
    for number in range(200):
        try:
            json.loads(mutate_json(content, random.Random(number)))
            parsed += 1
        except ValueError:
            pass
    assert parsed > 150


def test_bytes_and_texts_may_be_empty() -> None:
    for number in range(50):
        assert isinstance(mutate_bytes(b"", random.Random(number)), bytes)
        assert isinstance(mutate_text(b"", random.Random(number)), bytes)
