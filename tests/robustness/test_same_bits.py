"""The same seed on the same machine gives the same bits: pictures, features, Gaussians, latents, memory, answers."""

from __future__ import annotations

import pytest

from tests.robustness.kills import Workplace, differences
from tests.robustness.stages import STAGES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "demo with two threads"])
def test_a_demo_has_the_same_bits_in_every_run_and_with_two_threads(workplace: Workplace, name: str) -> None:
    expected = workplace.uninterrupted(STAGES["demo"]).results
    assert {"out/query.json", "_model.gauss_params.latents", "_model.memory.values"} < expected.keys()
    stage = STAGES[name]
    workplace.start(stage)
    done = workplace.run(stage)
    assert done.status == 0, done.output
    assert differences(stage, workplace.folder, expected) == []
