"""The headless browser of the measurements, which draws without a graphics card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from genlangsplat_ns.errors import GenLangSplatError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def browser_path() -> str:
    """Returns the path of the browser.

    Raises:
        GenLangSplatError: There is none.
    """
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise GenLangSplatError(f"Found no browser, expected one of {', '.join(BROWSERS)}. Install chromium.")
    return path


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A running browser."""
    path = browser_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SOFTWARE)
        yield browser
        browser.close()
