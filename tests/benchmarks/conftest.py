"""What the tests of the benchmarks share."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test import the modules of benchmarks/, which is a folder of scripts."""
    monkeypatch.syspath_prepend(BENCHMARKS)
