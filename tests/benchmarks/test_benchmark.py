"""Every benchmark is a command with the same flags and the same kind of result file."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.benchmarks.conftest import BENCHMARKS

pytestmark = pytest.mark.usefixtures("benchmarks_importable")

SCRIPTS = sorted(BENCHMARKS.glob("*.py"))
MEASURING = [script for script in SCRIPTS if script.stem not in ("figures", "animations", "paper_check")]
SUPPORT = sorted((BENCHMARKS / "support").glob("*.py"))


def classes_of(path: Path) -> list[ast.ClassDef]:
    """The classes of a file."""
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("script", MEASURING, ids=lambda path: path.stem)
def test_every_script_is_a_benchmark_that_says_what_quick_omits(script: Path) -> None:
    (benchmark,) = (node for node in classes_of(script) if [ast.unparse(base) for base in node.bases] == ["Benchmark"])
    fields = [node.target.id for node in benchmark.body if isinstance(node, ast.AnnAssign)]
    assert fields[-1] == "quick"
    for field, text in zip(benchmark.body[1:], benchmark.body[2:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr) and ast.literal_eval(text.value), f"{ast.unparse(field)} has no help"
    assert script.read_text().endswith(f'if __name__ == "__main__":\n    {benchmark.name}.main()\n')


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_is_listed(script: Path) -> None:
    assert f"| `{script.name}` |" in (BENCHMARKS / "README.md").read_text()


@pytest.mark.parametrize("module", SUPPORT, ids=lambda path: path.stem)
def test_what_they_share_holds_no_script(module: Path) -> None:
    assert "__main__" not in module.read_text()


def run_benchmark(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """Runs a benchmark that measures its number of flags."""
    from support import benchmark

    @dataclass(frozen=True, kw_only=True)
    class Count(benchmark.Benchmark):
        """Counts."""

        parts: tuple[str, ...] = ()
        """Names."""

        def measure(self) -> benchmark.Results:
            count = 1 if self.quick else len(self.parts)
            return [{"parts": list(self.parts)}], [benchmark.Goal("parts", count, ">=", 2)]

    monkeypatch.setattr(benchmark, "report_errors_plainly", lambda: None)
    monkeypatch.setattr(sys, "argv", ["count.py", *flags])
    Count.main()


def test_rows_machine_and_bars_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run_benchmark(monkeypatch, "--parts", "a", "b", "--json", str(tmp_path / "new" / "result.json"))
    document = json.loads((tmp_path / "new" / "result.json").read_text())
    assert document["rows"] == [{"parts": ["a", "b"]}]
    assert document["bars"] == [{"name": "parts", "measured": 2, "relation": ">=", "bar": 2}]
    assert {"cores", "torch", "load_average", "device"} <= document["machine"].keys()


def test_a_missed_goal_is_reported_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_benchmark(monkeypatch, "--quick", "--parts", "a", "b")
    words = capsys.readouterr().out.split()
    assert "no" in words and "yes" not in words


def test_a_range_is_shown_where_there_is_one() -> None:
    from support.tables import mean_with_range, with_range

    assert with_range(2.0, 1.0, 4.0, ".1f") == "2.0 (1.0 to 4.0)"
    assert mean_with_range([3.0], ".2f") == "3.00"
    assert mean_with_range([1.0, 2.0], ".1f") == "1.5 (1.0 to 2.0)"
