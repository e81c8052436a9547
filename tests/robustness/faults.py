"""Lets file operations of commands fail one by one: a clear error, nothing lost, and the next run succeeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.robustness.file_faults import ACTIONS, FileFault
from tests.robustness.kills import Uninterrupted, Workplace, contents, differences, lost_files, temporary_files
from tests.robustness.stages import Stage
from tests.robustness.warm_process import Outcome

SPACE = os.strerror(ACTIONS["ENOSPC"])

ELSEWHERE = "is not writable"
"""What the extraction says before it stores features in the user's cache folder, which is no fault."""

OTHER_RESULTS = {"share": "The run is opened without its photographs"}
"""What stages say before they go on with another result; the page of `share` has no views then."""


@dataclass(frozen=True)
class FaultKind:
    """One way in which a file operation fails."""

    name: str
    """Name in the tables."""
    action: str
    """One of ACTIONS."""
    operations: Sequence[str]
    """The operations that fail."""
    reasons: Sequence[str]
    """What an error may say about it."""
    lasting: bool = False
    """Whether all later operations fail too."""


KINDS = [
    FaultKind("disk full", "ENOSPC", ("create", "write", "folder"), (SPACE,), lasting=True),
    FaultKind("short write", "short write", ("write",), (SPACE,)),
    FaultKind(
        "error of the disk", "EIO", ("create", "write", "sync", "rename", "folder"), (os.strerror(ACTIONS["EIO"]),)
    ),
    FaultKind(
        "no permission", "EACCES", ("create", "rename", "folder"), (os.strerror(ACTIONS["EACCES"]),), lasting=True
    ),
    FaultKind(
        "error while reading", "EIO", ("open", "read"), (os.strerror(ACTIONS["EIO"]), "cannot be read", "damaged")
    ),
]
"""All ways."""


@dataclass
class FaultFigures:
    """What the faults of one kind did in one stage."""

    stage: str
    kind: str
    operations: int = 0
    """Operations of the stage that could fail."""
    faults: int = 0
    told: int = 0
    """Faults that ended the work with a clear error."""
    tolerated: int = 0
    """Faults in spite of which the work was done."""
    unclear: int = 0
    """Faults that ended with a traceback, a signal, a hang, or an error without file and reason."""
    data_losses: int = 0
    """Faults after which an earlier file was gone or a file was not whole."""
    wrong_results: int = 0
    """Faults after which the result, or that of the next run, was another one."""
    leftovers: int = 0
    """Faults after which a temporary file or a process was left."""
    findings: list[str] = field(default_factory=list)


def fail_stage(place: Workplace, stage: Stage, kind: FaultKind, at_most: int, seed: int) -> FaultFigures:
    """Lets every operation of a stage fail, or a random choice of `at_most` operations."""
    figures = FaultFigures(stage.name, kind.name)
    expected = place.uninterrupted(stage)
    place.start(stage)
    counted = place.run(stage, fault=FileFault(operations=kind.operations))
    figures.operations = counted.operations
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(figures.operations)[:at_most] + 1
    for number in sorted(map(int, chosen)):
        place.start(stage)
        failed = place.run(stage, fault=FileFault(number, kind.action, kind.operations, kind.lasting))
        _judge(figures, place, stage, kind, failed, expected, f"operation {number} of {figures.operations}")
    return figures


def _judge(
    figures: FaultFigures,
    place: Workplace,
    stage: Stage,
    kind: FaultKind,
    failed: Outcome,
    expected: Uninterrupted,
    where: str,
) -> None:
    unclear = why_unclear(failed, kind.reasons) if failed.status else None
    after = contents(place.folder)
    losses = lost_files(after, expected)
    left = [*failed.processes_left, *temporary_files(after, expected)]
    said = any(notice in failed.output for notice in (ELSEWHERE, OTHER_RESULTS.get(stage.name, ELSEWHERE)))
    wrong = [] if failed.status or said else differences(stage, place.folder, expected.results)
    again = place.run(stage)
    wrong += differences(stage, place.folder, expected.results) if again.status == 0 else [again.output[-400:]]
    figures.faults += 1
    figures.told += failed.status != 0 and unclear is None
    figures.tolerated += failed.status == 0
    figures.unclear += unclear is not None
    figures.data_losses += bool(losses)
    figures.wrong_results += bool(wrong)
    figures.leftovers += bool(left)
    for name, found in (("unclear", unclear), ("lost", losses), ("wrong", wrong), ("left", left)):
        if found:
            figures.findings.append(f"{stage.name}, {kind.name}, {where}: {name}: {found}")


def why_unclear(failed: Outcome, reasons: Sequence[str]) -> str | None:
    """Says why the end of a command is no clear error, or None."""
    if failed.hung:
        return "it hung"
    if failed.status < 0:
        return f"it was ended by signal {-failed.status}"
    end = failed.output[-1500:]
    if "Traceback (most recent call last)" in failed.output:
        return f"it showed a traceback: {end}"
    errors = [line for line in failed.output.splitlines() if "Error:" in line]
    if not errors or "To see where this arose" in errors[-1]:
        return f"the error was not foreseen: {end}"
    if not any(reason in errors[-1] for reason in reasons):
        return f"the error has no reason: {errors[-1]}"
    return None
