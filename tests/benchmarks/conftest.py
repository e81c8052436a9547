"""Shared fixtures of the benchmark tests."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the scripts in benchmarks/ importable."""
    monkeypatch.syspath_prepend(BENCHMARKS)
