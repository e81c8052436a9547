"""The built page in a headless browser, in front of a server in this process."""

from __future__ import annotations

import base64
import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from genlangsplat_ns.web.live_scene import LiveScene
from genlangsplat_ns.web.server import make_app
from genlangsplat_ns.web.serving import bound

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""Flags that draw without a graphics card."""

PATIENCE = 180
"""Timeout in seconds, long enough for a busy machine; a success takes a few seconds."""

SIZE = {"width": 900, "height": 640}

NARROW = {"width": 390, "height": 844}
"""A phone."""


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Waits until a function returns a true value, and returns the value."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {PATIENCE} s for {what}")


@contextmanager
def running_browser() -> Iterator[Any]:
    """A headless browser; the test is skipped if there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs a browser, one of {', '.join(BROWSERS)}: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SOFTWARE)
        yield browser
        browser.close()


class RunningServer:
    """The server of a scene in a thread, which can be stopped before its page."""

    def __init__(self, live: LiveScene) -> None:
        self._binding = bound("127.0.0.1", 0)
        taken = self._binding.__enter__()
        port = taken.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/"
        config = uvicorn.Config(make_app(live, port), log_level="critical", log_config=None, lifespan="off")
        config.timeout_graceful_shutdown = 1
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [taken]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops the server."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._binding.__exit__(None, None, None)


class ScenePage:
    """The page of a scene, with actions of a user.

    Its Content-Security-Policy forbids `wait_for_function`, so waiting asks again and again.
    """

    def __init__(self, browser: Any, address: str, wait: bool = True, script: str = "", **context: Any) -> None:
        self.context = browser.new_context(**({"viewport": SIZE, "color_scheme": "dark"} | context))
        self.context.add_init_script(script)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        if wait:
            self.wait_until_drawn()

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Runs a script in the page."""
        return self.page.evaluate(script, argument)

    def wait_until_drawn(self) -> None:
        """Waits until the scene is drawn as fine as the screen."""
        wait_for(
            lambda: self.evaluate("!!window.genlangsplat && window.genlangsplat.stage.isComplete"), "a drawn scene"
        )

    def answer(self, expected: str) -> str:
        """Waits until the answer line contains a text and the scene is drawn, and returns the line."""

        def line() -> str:
            text = str(self.page.locator("#answer").text_content())
            return text if expected in text else ""

        found = str(wait_for(line, f'the answer "{expected}", not "{self.page.locator("#answer").text_content()}"'))
        self.wait_until_drawn()
        return found

    def ask(self, line: str, expected: str | None = None) -> str:
        """Enters a line into the text box and waits for its answer."""
        self.page.fill("#text", line)
        self.page.press("#text", "Enter")
        return self.answer(f"{line}: " if expected is None else expected)

    def press(self, button: str) -> None:
        """Presses a button by its name."""
        self.page.get_by_role("button", name=button, exact=True).click()

    def picture(self) -> np.ndarray:
        """The drawn scene without the panels, as (height, width, 3) from 0 to 255."""
        self.wait_until_drawn()
        hide = "(shown) => document.querySelectorAll('#panel, #photographs').forEach((e) => e.hidden = !shown)"
        self.evaluate(hide, False)
        image = Image.open(io.BytesIO(self.page.screenshot()))
        self.evaluate(hide, True)
        return np.asarray(image.convert("RGB")).astype(np.float32)

    def saved(self, button: str, folder: Path) -> Path:
        """Presses a button that saves a file, and returns the file."""
        with self.page.expect_download() as download:
            self.press(button)
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path


def to_page(array: np.ndarray) -> dict[str, str]:
    """An array as `arrayFrom` in the page reads it."""
    kind = {"f4": "Float32Array", "f8": "Float64Array", "u1": "Uint8Array"}[array.dtype.str[1:]]
    return {"kind": kind, "bytes": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()}


ARRAY_FROM = """
const arrayFrom = ({ kind, bytes }) =>
  new globalThis[kind](Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0)).buffer);
"""
"""Reads what `to_page` made; goes before the body of a script."""
