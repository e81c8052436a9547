"""The benchmark of provoked faults: masks whose borders move, and what counts as a right verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures("benchmarks_importable")


def test_borders_move_by_at_most_the_reach_and_inner_pixels_stay() -> None:
    from support.health_faults import shift_borders

    regions = (torch.arange(100)[None, None, :] // 50).expand(3, 60, 100).int()
    shifted = shift_borders(regions, 0.06, np.random.default_rng(0))
    changed = (shifted != regions).nonzero()[:, 2]
    assert len(changed) > 60 and int(changed.min()) >= 50 - 7 and int(changed.max()) < 50 + 7
    assert not torch.equal(shifted, shift_borders(regions, 0.06, np.random.default_rng(1)))


def test_only_the_expected_fault_alone_is_a_right_verdict() -> None:
    from health import verdicts

    blurred = [["semantic bleeding"], [], ["semantic bleeding", "latent collapse"], ["semantic bleeding"]]
    rows = [{"run": "blurred masks", "named": named} for named in blurred]
    rows += [{"run": "healthy", "named": named} for named in ([], ["unfaithful code"])]
    goals = {goal.name: goal.measured for goal in verdicts(rows)}
    assert goals == {"healthy: only nothing named": 0.5, "blurred masks: only semantic bleeding named": 0.5}


@pytest.mark.slow
def test_each_fault_of_a_real_training_is_named_alone(tmp_path: Path) -> None:
    from health import row_of

    from genlangsplat_ns.features.encoders import load_encoder
    from support.health_faults import FAULTS, health_of_all

    runs = [name for name in FAULTS if name != "optimized"]
    found = health_of_all(tmp_path, 0, load_encoder("conse", "cpu"), runs)
    named = {name: row_of(name, 0, health)["named"] for name, health in found.items()}
    assert named == {name: [] if FAULTS[name] is None else [FAULTS[name]] for name in runs}
    mended = found["another domain, memory"]["unfaithful code"]
    assert mended["details"]["cosine_of_autoencoder"] < 0.5 < 0.7 < mended["value"]
