"""Fixtures of the tests of pretrain."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from genlangsplat_ns.utils import console


@pytest.fixture(autouse=True)
def captured_log(caplog: pytest.LogCaptureFixture) -> None:
    """Captures all log messages, from level info."""
    caplog.set_level(logging.INFO)


@pytest.fixture
def shown_progress(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Shows progress bars in the returned buffer."""
    shown = io.StringIO()
    monkeypatch.setattr(console, "CONSOLE", Console(file=shown, force_terminal=True, width=140, highlight=False))
    monkeypatch.setattr(console, "is_shown", lambda: True)
    return shown
