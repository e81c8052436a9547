"""Errors leave a program as one sentence, or with their traceback for those who want it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from genlangsplat_ns.utils.command_line import TRACEBACK_VARIABLE

PROGRAM = """
import sys
from dataclasses import dataclass
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.command_line import run_commands

ERRORS = {
    "expected": GenLangSplatError("Found a cat; give a dog."),
    "disk": OSError(28, "No space left on device", "out.ply"),
    "parser": KeyError("frames"),
    "stopped": KeyboardInterrupt(),
}

@dataclass
class Fail:
    '''Fail in some way.'''
    kind: str
    '''The kind of failure.'''
    def __call__(self) -> None:
        raise ERRORS[self.kind]

run_commands(lambda: {"fail": Fail, "other": Fail}, "Fails.")
"""

WARNS = """
import warnings
from dataclasses import dataclass
from genlangsplat_ns.utils.command_line import run_commands

@dataclass
class Warn:
    '''Warn as a dependency and as this package.'''
    def __call__(self) -> None:
        for module in ("torch.jit._script", "genlangsplat_ns.cli"):
            warnings.warn_explicit("it will go", FutureWarning, "file.py", 1, module=module)

run_commands(lambda: {"warn": Warn, "other": Warn}, "Warns.")
"""

HOOKED = """
import sys
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.command_line import report_errors_plainly
report_errors_plainly(traceback="--traceback" in sys.argv)
report_errors_plainly()
raise {error}
"""


def outcome(code: str, *words: str, **environment: str) -> tuple[int, str]:
    """Runs a program; returns its exit status and its output on one line."""
    command = [sys.executable, "-c", code, *words]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=root, env={"PATH": "", "COLUMNS": "200", **environment}
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("expected", "Error: Found a cat; give a dog."),
        (
            "disk",
            "Error: out.ply: No space left on device. Free disk space or name another folder, then run the same "
            "command again.",
        ),
        ("parser", "Error: KeyError: 'frames'. To see where this arose, add --traceback."),
    ],
)
def test_an_error_is_one_sentence(kind: str, sentence: str) -> None:
    assert outcome(PROGRAM, "fail", "--kind", kind) == (1, sentence)


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (("--traceback", "fail", "--kind", "parser"), {}),
        (("fail", "--kind", "parser", "--traceback"), {}),
        (("fail", "--kind", "parser"), {TRACEBACK_VARIABLE: "1"}),
    ],
)
def test_the_traceback_is_there_on_request(words: tuple[str, ...], environment: dict[str, str]) -> None:
    status, output = outcome(PROGRAM, *words, **environment)
    assert status == 1 and "Traceback" in output and output.endswith("KeyError: 'frames'")


def test_a_stopped_command_is_no_error() -> None:
    status, output = outcome(PROGRAM, "fail", "--kind", "stopped")
    assert status == 130 and output.startswith("Stopped.")


@pytest.mark.parametrize(("options", "count"), [({}, 1), ({"PYTHONWARNINGS": "always"}, 2)])
def test_warnings_of_dependencies_are_shown_on_request(options: dict[str, str], count: int) -> None:
    status, output = outcome(WARNS, "warn", **options)
    assert status == 0 and output.count("it will go") == count


def test_the_help_of_a_program_names_the_flag() -> None:
    status, output = outcome(PROGRAM, "--help")
    assert status == 0 and "--traceback" in output


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("GenLangSplatError('Found a cat.')", "Error: Found a cat."),
        (
            "PermissionError(13, 'Permission denied', 'x.ckpt')",
            "Error: x.ckpt: Permission denied. Give permission or name another folder, then run the same command "
            "again.",
        ),
        ("ValueError('bad')", "Error: ValueError: bad. To see where this arose, set GENLANGSPLAT_TRACEBACK=1."),
    ],
)
def test_commands_of_nerfstudio_report_one_sentence_too(error: str, sentence: str) -> None:
    code = HOOKED.format(error=error)
    assert outcome(code) == (1, sentence)
    assert "Traceback" in outcome(code, **{TRACEBACK_VARIABLE: "1"})[1]


def test_other_exits_of_hooked_commands_stay_as_they_are() -> None:
    assert "Traceback" in outcome(HOOKED.format(error="KeyboardInterrupt()"))[1]
