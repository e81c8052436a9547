"""`gen-langsplat costs` finds runs, and says what a table of their costs cannot show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genlangsplat_ns.commands.costs import Costs
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene.cost_table import compare_costs, duration, find_runs, notes_on_costs, read_costs


def costs_of(seconds: float, **changes: Any) -> dict[str, Any]:
    """The costs in the report of a made-up run."""
    stage = {"wall_seconds": seconds, "processor_seconds": 2 * seconds, "peak_memory_gb": 1.0}
    return {**stage, "stages": {"RGB phase": stage}, "machine": "Linux", "not_counted": ["the viewer"], **changes}


def make_run(folder: Path, costs: dict[str, Any] | None) -> Path:
    """A folder like that of a run; without a report if `costs` is None."""
    folder.mkdir(parents=True)
    (folder / "config.yml").touch()
    if costs is not None:
        (folder / "report.json").write_text(json.dumps({"costs": costs, "health": {}, "metrics": {}}))
    return folder


def test_a_run_is_named_by_its_folder_or_by_a_file_in_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "fox" / "gen-langsplat" / "today", costs_of(10))
    for path in (run, run / "config.yml", run / "report.json"):
        assert find_runs(path).reports == (run / "report.json",)
    assert read_costs(run / "report.json") == costs_of(10)


def test_a_folder_of_runs_stands_for_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for number in (1, 2):
        make_run(tmp_path / "fox" / "gen-langsplat" / f"{number}", costs_of(10.0 * number))
    stopped = make_run(tmp_path / "fox" / "gen-langsplat" / "3", None)
    # A demo has a report of its own beside its run.
    (tmp_path / "report.json").write_text('{"miou": 0.5}')
    found = find_runs(tmp_path)
    assert [path.parent.name for path in found.reports] == ["1", "2"] and found.without_report == (stopped,)
    Costs(runs=(tmp_path,))()
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if "RGB phase" in line]
    assert "10.0 s" in row and "20.0 s" in row
    assert f"{stopped} has no report" in printed and "Not counted in all runs: the viewer." in printed
    monkeypatch.setenv("COLUMNS", "50")
    Costs(runs=(tmp_path,))()
    rows = [line for line in capsys.readouterr().out.splitlines() if "RGB phase" in line]
    assert ["10.0 s" in row for row in rows] == [True, False], "a narrow console shows one table after the other"


def test_runs_of_different_machines_are_said_not_to_compare() -> None:
    documents = [costs_of(10), costs_of(20, machine="Linux, NVIDIA H100"), costs_of(30)]
    notes = notes_on_costs(["a", "b", "c"], documents)
    assert any("different machines" in note for note in notes)
    assert "a, c: Linux." in notes and "b: Linux, NVIDIA H100." in notes
    assert not any("machines" in note for note in notes_on_costs(["a", "c"], [documents[0], documents[2]]))
    earlier = {name: value for name, value in costs_of(10).items() if name != "machine"}
    assert "d: an unknown machine." in notes_on_costs(["a", "d"], [documents[0], earlier])


def test_what_has_no_report_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="no run to show"):
        Costs(runs=())()
    with pytest.raises(GenLangSplatError, match="does not exist"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(GenLangSplatError, match="Found no run in"):
        find_runs(tmp_path)
    run = make_run(tmp_path / "fox", None)
    with pytest.raises(GenLangSplatError, match=r"no report\.json.*--load-dir"):
        find_runs(run)
    with pytest.raises(GenLangSplatError, match=r"1 runs without a report\.json"):
        find_runs(tmp_path)
    with pytest.raises(GenLangSplatError, match="does not exist"):
        read_costs(run / "report.json")


@pytest.mark.parametrize("content", ["{", "[]", '{"miou": 0.5}', '{"costs": {"stages": {}}}', '{"costs": null}'])
def test_a_file_that_is_not_the_report_of_a_run_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    (report,) = find_runs(tmp_path).reports
    with pytest.raises(GenLangSplatError, match="not the report of a run"):
        read_costs(report)


def test_a_stage_or_a_number_that_a_run_does_not_have_is_a_hyphen() -> None:
    other = costs_of(20, stages={"lifting": costs_of(20)})
    rows = dict(compare_costs([costs_of(10), other]))
    assert rows["RGB phase"] == ["10.0 s", "-"] and rows["lifting"] == ["-", "20.0 s"]
    assert rows["all stages"] == ["10.0 s", "20.0 s"] and rows["checkpoint on disk"] == ["-", "-"]


def test_seconds_are_read_easily() -> None:
    assert [duration(value) for value in (8.21, 59.6, 200.0, 7_500.0)] == ["8.2 s", "59.6 s", "3 min 20 s", "2 h 5 min"]
