"""The warm process and the workplace of the series, shared by their tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robustness.file_faults import missing_tools
from tests.robustness.kills import Workplace
from tests.robustness.warm_process import WarmProcess


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A warm process and its folder; making both takes half a minute."""
    if missing := missing_tools():
        pytest.skip(missing)
    scratch: Path = tmp_path_factory.mktemp("faults")
    with WarmProcess(scratch) as warm:
        yield Workplace(scratch, warm)
