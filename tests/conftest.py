"""Fixtures that every package's tests may use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genlangsplat_ns.scene_io.installed_methods import installed_methods_only
from genlangsplat_ns.utils.console import CONSOLE, hide
from genlangsplat_ns.utils.ray import START_PATIENTLY

with installed_methods_only():
    import nerfstudio.configs.method_configs  # noqa: F401 - every later import is fast

# xdist sets this variable in its workers, which fixes the width of every console that is made then.
os.environ.pop("COLUMNS", None)
CONSOLE.width = None  # type: ignore[assignment]  # None is the width of the terminal.

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and scenes next to the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real pictures and scenes in {SHARED_DATA}, which are not part of the project")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def quiet_library() -> None:
    """Undoes what commands of earlier tests did to the log, so that every test starts like a script."""
    hide()


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded random number generator."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray with two cores of this machine; starting it takes seconds."""
    try:
        import ray
    except ImportError as error:
        pytest.skip(f'needs Ray ({error}): pip install "genlangsplat-ns[ray]"')
    # pytest keeps logged errors, which reference dead workers, which would block the CPUs for the next workers.
    record_of = logging.getLogRecordFactory()

    def record_without_error(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = record_of(*args, **kwargs)
        record.exc_info = None
        return record

    logging.setLogRecordFactory(record_without_error)
    os.environ.setdefault(*START_PATIENTLY)
    try:
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        logging.setLogRecordFactory(record_of)
