"""The command `gen-langsplat doctor`: its table, its file and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from genlangsplat_ns.installation import checks
from genlangsplat_ns.installation.checks import Finding
from tests.end_to_end.commands import gen_langsplat

WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder

class Without(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without())
from genlangsplat_ns.cli import main
main()
"""
"""A process in which torch is not installed."""


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """The findings of the only check."""
    found = [
        Finding("torch", "ok", "2.4.0"),
        Finding("ffmpeg", "missing", "needed only for videos", "apt-get install ffmpeg"),
        Finding("numpy", "warning", "3.0, expected <2", 'pip install "numpy<2"'),
    ]
    monkeypatch.setattr(checks, "CHECKS", (("the only one", lambda: found, False),))
    return found


def test_every_finding_has_a_line_with_what_to_do(
    findings: list[Finding], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    gen_langsplat("doctor")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "torch ok 2.4.0 ffmpeg missing needed only for videos apt-get install ffmpeg numpy warning" in shown
    assert "Neither method works" not in shown


def test_the_exit_status_tells_what_both_methods_need(
    findings: list[Finding], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gen_langsplat("doctor", "--json", tmp_path / "whole.json")
    findings.append(Finding("methods", "missing", "no module named nerfstudio", stops=True))
    gen_langsplat("doctor", "--json", tmp_path / "broken.json", expect=1)
    assert "Neither method works: methods." in capsys.readouterr().out
    whole, broken = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "broken"))
    assert whole["works"] and not broken["works"]
    assert broken["findings"] == whole["findings"] + [
        {"name": "methods", "state": "missing", "found": "no module named nerfstudio", "remedy": "", "stops": True}
    ]


def test_a_file_is_replaced_only_on_request(
    findings: list[Finding], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "findings.json"
    path.write_text("mine")
    gen_langsplat("doctor", "--json", path, expect=1)
    assert path.read_text() == "mine"
    printed = capsys.readouterr().out
    assert "exists" in printed and "2.4.0" not in printed, "it is refused before the checks"
    gen_langsplat("doctor", "--json", path, "--overwrite")
    assert json.loads(path.read_text())["works"]


def test_a_scene_that_is_not_there_does_not_hide_the_rest(
    findings: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    gen_langsplat("doctor", "--data", "nowhere")
    shown = capsys.readouterr().out
    assert "nowhere" in shown and "2.4.0" in shown


def test_without_torch_the_doctor_still_answers(tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    command = [sys.executable, "-c", WITHOUT_TORCH, "doctor", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    found = {item["name"]: item for item in json.loads(path.read_text())["findings"]}
    assert found["python"]["state"] == "ok" and "compiler" in found
    assert found["methods"]["found"] == "ModuleNotFoundError: No module named 'torch'"
    assert {name for name, item in found.items() if item["stops"]} == {"methods", "device", "auto"}
