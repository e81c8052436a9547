"""Faults that the system itself makes: a full disk, a read-only folder, a removed folder, a clock that jumps back."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.robustness.faults import why_unclear
from tests.robustness.file_faults import FileFault
from tests.robustness.kills import Workplace, contents, differences, lost_files, temporary_files
from tests.robustness.stages import STAGES, Stage
from tests.robustness.warm_process import Task

pytestmark = pytest.mark.slow

WRITERS = [STAGES[name] for name in ("export", "query", "pre-training")]
FOLDERS = {"export": "out", "query": "out", "pre-training": "trained"}
"""Where they write."""


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mounts a file system in memory; skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def check_again(place: Workplace, stage: Stage) -> None:
    """Checks that nothing was lost or left, and that the next run succeeds."""
    expected = place.uninterrupted(stage)
    found = contents(place.folder)
    assert lost_files(found, expected) == [] and temporary_files(found, expected) == []
    again = place.run(stage)
    assert again.status == 0, again.output
    assert differences(stage, place.folder, expected.results) == []


@pytest.mark.parametrize(
    ("options", "reasons"),
    [("size=8k", ["No space left on device"]), ("ro", ["Read-only file system", "no permission"])],
    ids=["full disk", "read-only folder"],
)
@pytest.mark.parametrize("stage", WRITERS, ids=FOLDERS)
def test_a_folder_that_takes_no_files(workplace: Workplace, stage: Stage, options: str, reasons: list[str]) -> None:
    workplace.uninterrupted(stage)
    workplace.start(stage)
    with mounted(workplace.folder / FOLDERS[stage.name], options):
        failed = workplace.run(stage)
    assert failed.status and why_unclear(failed, reasons) is None
    check_again(workplace, stage)


@pytest.mark.parametrize("name", ["export", "compress", "RGB phase"])
def test_a_limit_of_the_size_of_files(workplace: Workplace, name: str) -> None:
    """Like a quota: every file may have 20 kB."""
    stage = STAGES[name]
    workplace.uninterrupted(stage)
    workplace.start(stage)
    failed = workplace.run(stage, limits={"RLIMIT_FSIZE": 20_000})
    assert failed.status and why_unclear(failed, ["File too large"]) is None
    check_again(workplace, stage)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("extraction", "scene/language_features"), ("pre-training", "trained"), ("RGB phase", "outputs")],
)
def test_a_folder_that_is_removed_during_the_work(workplace: Workplace, name: str, folder: str) -> None:
    """The work fails with an error that names a file, or does without; the next run makes everything anew."""
    stage = STAGES[name]
    expected = workplace.uninterrupted(stage)
    workplace.start(stage)
    workplace.warm.start(Task(stage.name, str(workplace.folder)))
    patience = time.monotonic() + 60
    while not any((workplace.folder / folder).rglob("*.*")) and time.monotonic() < patience:
        time.sleep(0.005)
    shutil.rmtree(workplace.folder / folder, ignore_errors=True)
    done = workplace.warm.finish()
    assert done.status == 0 or why_unclear(done, [folder]) is None, done.output
    again = workplace.run(stage)
    assert again.status == 0, again.output
    assert differences(stage, workplace.folder, expected.results) == []


@pytest.mark.parametrize("name", ["extraction", "RGB phase"])
def test_a_clock_that_jumps_back_a_day(workplace: Workplace, name: str) -> None:
    stage = STAGES[name]
    expected = workplace.uninterrupted(stage)
    workplace.start(stage)
    done = workplace.run(stage, clock_offset=-86_400.0)
    assert done.status == 0, done.output
    assert differences(stage, workplace.folder, expected.results) == []
    assert "-1 day" not in done.output and "-86" not in done.output


def test_two_processes_on_one_store(workplace: Workplace) -> None:
    stage = STAGES["two extractions"]
    workplace.uninterrupted(STAGES["extraction"])
    workplace.start(stage)
    done = workplace.run(stage)
    assert done.status == 0, done.output
    assert differences(stage, workplace.folder, workplace.uninterrupted(STAGES["extraction"]).results) == []


@pytest.mark.parametrize("megabytes", [0, 30, 100, 300])
def test_too_little_memory(workplace: Workplace, megabytes: int) -> None:
    """A kernel without memory raises an error; the process does not crash.

    The exception is libgomp, which ends the process itself if there is no memory for the threads of PyTorch.
    """
    stage = STAGES["large rendering"]
    workplace.start(stage)
    failed = workplace.run(stage, limits={"RLIMIT_AS": megabytes << 20}, fault=FileFault())
    assert failed.status in (0, 1), failed.output
    if failed.status:
        told = ("memory", "allocate", "Thread creation failed")
        assert any(words in failed.output for words in told), failed.output
