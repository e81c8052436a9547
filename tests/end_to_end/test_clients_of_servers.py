"""Clients that ask and vanish leave both real servers of a run answering."""

from __future__ import annotations

from pathlib import Path

import pytest

from genlangsplat_ns.scene.language_scene import LanguageScene
from tests.web.browser import running_browser

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_clients_that_vanish_leave_viewer_and_page_answering(
    tiny_run: LanguageScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_browser() as browser:
        monkeypatch.syspath_prepend(BENCHMARKS)
        from support import clients_load
        from support.clients_servers import running_servers

        monkeypatch.setattr(clients_load, "STAY", (0.5, 6.0))
        with running_servers(tiny_run.stored.config_path, tmp_path) as servers:
            rows = clients_load.load_servers(browser, *servers, minutes=0.2, seed=24, clients=1)
    assert [row["part"] for row in rows] == ["viewer server", "page server"]
    for row in rows:
        assert row["findings"] == [], row
        assert row["vanished"] >= 1 and row["answers_after"] == 1, row
        assert row["stop_s"] < clients_load.STOPPED, row
