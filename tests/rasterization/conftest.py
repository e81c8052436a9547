"""Fixtures of the rasterizer tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from genlangsplat_ns.rasterization import library


@pytest.fixture(params=library.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every build of the kernels that this machine can run."""
    monkeypatch.setenv("GENLANGSPLAT_ISA", request.param)
    return request.param


@pytest.fixture
def keep_thread_count() -> Iterator[None]:
    """Restores torch's number of threads after the test."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.fixture
def unwritten_memory_is_nan() -> Iterator[None]:
    """Fills new memory of torch with NaN, so that unwritten results are detected."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
