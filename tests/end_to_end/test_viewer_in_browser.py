"""The real viewer in a headless browser: query, view, change the threshold, select, export."""

from __future__ import annotations

import io
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
from PIL import Image

from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.ply import read_ply
from tests.end_to_end.commands import BIN
from tests.web.browser import PATIENCE, running_browser, wait_for

pytestmark = pytest.mark.slow

STILL = 6
"""Seconds without a change after which an image is final, longer than a busy machine takes for one image."""

SIZE = {"width": 1100, "height": 1400}
SCENE = {"x": 20, "y": 100, "width": 700, "height": 1200}
"""The part of the page where the scene is."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of the viewer."""
    return tmp_path_factory.mktemp("viewer")


@pytest.fixture(scope="module")
def address(tiny_run: LanguageScene, folder: Path) -> Iterator[str]:
    """Address of an `ns-viewer` of the finished run."""
    config = tiny_run.stored.config_path
    log = folder / "log.txt"
    command = [BIN / "ns-viewer", "--load-config", config, "--viewer.websocket-port", "7100"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)

    def answering() -> str | None:
        """The address that the viewer prints, because it takes the next free port."""
        assert process.poll() is None, log.read_text()[-3000:]
        printed = re.search(r"http://[^ :]+:(\d+)", log.read_text())
        if printed is None:
            return None
        address = f"http://127.0.0.1:{printed[1]}"
        try:
            return address if urllib.request.urlopen(address, timeout=5).status == 200 else None
        except OSError:
            return None

    try:
        yield wait_for(answering, "ns-viewer")
    finally:
        process.kill()
        process.wait()


class ViewerPage:
    """The viewer's page, with actions of a user."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def box(self, name: str) -> Any:
        """The input next to a label."""
        return self.page.locator(f'xpath=//label[text()="{name}"]/../../..').locator("input:visible").last

    def write(self, name: str, text: str) -> None:
        """Enters a text into a box."""
        self.box(name).fill(text)

    def choose(self, name: str, option: str) -> None:
        """Chooses from a list."""
        self.box(name).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def press(self, button: str) -> None:
        """Presses a button."""
        self.page.get_by_role("button", name=button, exact=True).click()

    def answer(self, expected: str) -> str:
        """Waits until the panel's answer contains a text, and returns the answer."""
        return wait_for(lambda: (text := self.box("Answer").input_value()) and expected in text and text, expected)

    def image(self) -> np.ndarray:
        """The current image of the scene."""
        image = Image.open(io.BytesIO(self.page.screenshot(clip=SCENE)))
        return np.asarray(image.convert("RGB")).astype(np.float32)

    def image_with(self, holds: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
        """Waits for an image that fulfills a condition."""
        return wait_for(lambda: [image for image in [self.image()] if holds(image)], what)[0]

    def still_image(self) -> np.ndarray:
        """Waits until the image no longer changes: a moving camera is shown coarsely first."""
        last, since = self.image(), time.monotonic()

        def still() -> bool:
            nonlocal last, since
            image = self.image()
            if np.abs(image - last).mean() > 0.1:
                last, since = image, time.monotonic()
            return time.monotonic() - since > STILL

        wait_for(still, "an image that stays")
        return last


@pytest.fixture(scope="module")
def viewer(address: str) -> Iterator[ViewerPage]:
    """The viewer in a browser."""
    with running_browser() as browser:
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(address)
        page.get_by_role("button", name="Ask", exact=True).wait_for()
        yield ViewerPage(page)


def test_the_panel_asks_selects_and_exports(viewer: ViewerPage, folder: Path, tiny_run: LanguageScene) -> None:
    # The camera starts at a training view, which is full of the scene.
    start = viewer.image_with(lambda image: image.std() > 20, "a image of the scene")
    places = [viewer.box(name).bounding_box()["y"] for name in ("Texts", "Answer", "Output type", "Negatives")]
    assert places == sorted(places), "the language controls come first"

    viewer.press("Isolate")
    viewer.answer("There is no query yet")
    viewer.write("Texts", "a cat; a rocket")
    viewer.press("Ask")
    best = viewer.answer("best seen in").partition("best seen in ")[2].rstrip(")").split("; ")
    assert len(best) == 2 and set(best) <= {view.name for view in tiny_run.views("train")}
    viewer.write("Threshold", "0.3")
    viewer.press("Next peak")
    viewer.answer("relevancy")
    viewer.image_with(lambda image: np.abs(image - start).mean() > 5, "the view of a peak")
    before = viewer.still_image()

    viewer.choose("Output type", "relevancy_overlay")
    viewer.image_with(lambda image: np.abs(image - before).mean() > 5, "the relevancy overlay")

    viewer.choose("Output type", "selection")
    viewer.write("Threshold", "0")
    bright = viewer.image_with(lambda image: image.mean() > 200, "a selection of all that was ever seen")
    viewer.write("Threshold", "0.9")
    viewer.image_with(lambda image: image.mean() < bright.mean() - 20, "a smaller selection")
    viewer.write("Threshold", "0.3")

    target = folder / "exports" / "cat.ply"
    viewer.write("File", str(target))
    viewer.press("Export")
    answer = viewer.answer("are written to")
    count = int(answer.split()[0].replace(",", ""))
    assert len(read_ply(target)) == count > 0
    assert plyfile.PlyData.read(str(target))["vertex"].count == count
    kept = target.read_bytes()
    viewer.press("Export")
    viewer.answer("exists already")
    assert target.read_bytes() == kept

    viewer.choose("Output type", "rgb")
    viewer.image_with(lambda image: np.abs(image - before).mean() < 3, "the scene as before")
    whole = viewer.still_image()
    viewer.press("Hide")
    viewer.answer(f"{count:,} Gaussians are hidden")
    viewer.image_with(lambda image: np.abs(image - whole).mean() > 1, "the scene with a hole")
    viewer.press("Show all")
    viewer.image_with(lambda image: np.abs(image - whole).mean() < 1, "the whole scene")

    viewer.press("Click: what is here?")
    viewer.answer("click on the scene")
    viewer.page.mouse.click(SCENE["x"] + SCENE["width"] / 2, SIZE["height"] / 2)
    names = viewer.answer("; ").split("; ")
    assert len(names) == 5 and all(-1 <= float(name.rsplit(" ", 1)[1]) <= 1 for name in names)
    viewer.press("Click: find what looks like this")
    viewer.answer("click on the scene")
    viewer.page.mouse.click(SCENE["x"] + SCENE["width"] / 2, SIZE["height"] / 2)
    viewer.answer("looks like this")
    viewer.press("Isolate")
    viewer.answer("selected Gaussians are shown")

    viewer.write("Texts", "🦊 狐狸")
    viewer.write("Negatives", " ; ")
    viewer.press("Ask")
    viewer.answer("no negative text")
    viewer.write("Negatives", "things")
    viewer.press("Ask")
    viewer.answer("🦊 狐狸")
