"""The library is silent until a command shows its log and progress."""

from __future__ import annotations

import logging

import pytest

from genlangsplat_ns.utils.console import hide, is_shown, show
from genlangsplat_ns.utils.progress import track

LOGGER = logging.getLogger("genlangsplat_ns.somewhere")


def test_a_script_sees_nothing_of_the_log_and_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    LOGGER.info("lifted [3] things")
    assert list(track([1, 2], "Counting")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_command_prints_each_line_once_although_the_root_has_a_handler(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    stray = logging.StreamHandler()
    root.addHandler(stray)
    try:
        show()
        show()
        LOGGER.info("lifted [3] things")
        assert list(track([1, 2], "Counting")) == [1, 2]
    finally:
        root.removeHandler(stray)
    out, err = capsys.readouterr()
    assert out.count("lifted [3] things") == 1 and "Counting" in out and "lifted" not in err


def test_hiding_undoes_showing() -> None:
    show()
    assert is_shown()
    hide()
    assert not is_shown() and logging.getLogger("genlangsplat_ns").propagate
