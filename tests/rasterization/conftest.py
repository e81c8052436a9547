"""What the tests of the rasterizer share."""

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
    """Lets a test change torch's number of threads."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)
