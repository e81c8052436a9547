"""The page of a small scene in a browser, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from genlangsplat_ns.web.live_scene import LiveScene
from tests.web.browser import RunningServer, ScenePage, running_browser
from tests.web.pages import live_scene, page_scene


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser."""
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def clouds() -> Iterator[LiveScene]:
    """Two clouds of large Gaussians behind a page."""
    scene = page_scene()
    scene.model.scales.data += 1.0
    live = live_scene(scene)
    yield live
    live.stop()


@pytest.fixture(scope="module")
def server(clouds: LiveScene) -> Iterator[RunningServer]:
    """The server of the clouds."""
    server = RunningServer(clouds)
    yield server
    server.stop()


@pytest.fixture
def opened(browser: Any, server: RunningServer) -> Iterator[ScenePage]:
    """The page, freshly opened."""
    page = ScenePage(browser, server.address)
    yield page
    page.context.close()
    assert page.errors == []
