"""Operations on files that fail end in a clear error; nothing is lost, and the next run succeeds."""

from __future__ import annotations

import numpy as np
import pytest

from tests.robustness.faults import KINDS, fail_stage, why_unclear
from tests.robustness.kills import Workplace
from tests.robustness.stages import KILLED, WRITING, Stage
from tests.robustness.warm_process import Outcome

SEED = 24


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*KILLED, *WRITING], ids=lambda stage: stage.name)
def test_a_failing_operation_is_told_and_loses_nothing(workplace: Workplace, stage: Stage) -> None:
    """One operation of one kind; `benchmarks/robustness.py --parts faults` lets every one fail."""
    kind = KINDS[int(np.random.default_rng([SEED, *stage.name.encode()]).integers(len(KINDS)))]
    figures = fail_stage(workplace, stage, kind, 1, SEED)
    assert figures.findings == [] and figures.faults == min(figures.operations, 1)


def outcome(output: str, status: int = 1) -> Outcome:
    return Outcome(status, 0.1, 1, output, hung=False, processes_left=[])


def test_an_unclear_error_is_told_from_a_clear_one() -> None:
    clear = "Error: x.ply: No space left on device. Free disk space."
    assert why_unclear(outcome(clear), ["No space"]) is None
    for output in ("", "Error: x.ply", "Traceback (most recent call last)\n" + clear, clear[7:]):
        assert why_unclear(outcome(output), ["No space"]) is not None
    assert why_unclear(outcome(clear, status=-11), ["No space"]) == "it was ended by signal 11"
