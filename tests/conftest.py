"""Fixtures that every package's tests may use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures and scenes beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real pictures and scenes in {SHARED_DATA}, which are not part of the project")
    return SHARED_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
