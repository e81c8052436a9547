"""Draws the animations of the documents: a query in the page of `gen-langsplat view`, and a page of `share`.

    python benchmarks/animations.py --demo demo-output --output-dir docs

Both are taken from the real pages of the demo's run in a headless browser. Pictures are taken when the scene is drawn
as fine as the screen, so the animation shows what the page looks like and not how fast this machine draws it.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from PIL import Image
from playwright.sync_api import Page

from genlangsplat_ns.commands.share import Share
from genlangsplat_ns.utils.console import CONSOLE
from page import opened, served, wait_until_drawn
from support.pictures import config_of

WIDTH = 800
"""Width of the animations in pixels."""

QUALITY = 55
"""Quality of their WebP pictures, of 100."""

TURN = """([forth, side]) => {
  const { stage } = genlangsplat, pose = stage.pose;
  stage.pose = { ...pose, position: pose.position.map((value, axis) =>
    value + side * pose.right[axis] - forth * pose.back[axis]) };
}"""
"""Moves the camera along its own axes."""


@dataclass
class Film:
    """The pictures of an animation and how long each is shown."""

    page: Page
    pictures: list[Image.Image] = field(default_factory=list)
    milliseconds: list[int] = field(default_factory=list)

    def take(self, milliseconds: int) -> None:
        """Takes a picture when the scene is drawn."""
        wait_until_drawn(self.page)
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.pictures.append(picture.resize((WIDTH, WIDTH * picture.height // picture.width), Image.Resampling.LANCZOS))
        self.milliseconds.append(milliseconds)

    def type(self, text: str) -> None:
        """Types a text, with a picture every two letters."""
        for first in range(0, len(text), 2):
            self.page.keyboard.type(text[first : first + 2])
            self.take(120)

    def sway(self, steps: int, side: float, forth: float = 0.0) -> None:
        """Moves the camera in equal steps."""
        for _ in range(steps):
            self.page.evaluate(TURN, [forth, side])
            self.take(90)

    def save(self, path: Path) -> None:
        """Writes the animation as WebP."""
        first, *others = self.pictures
        first.save(path, save_all=True, append_images=others, duration=self.milliseconds, quality=QUALITY, method=6)
        CONSOLE.print(f"{path}: {len(self.pictures)} pictures, {path.stat().st_size / 1e6:.1f} MB")


def ask_by_keyboard(film: Film, text: str) -> None:
    """Types a text and presses Enter, and waits for its answer."""
    film.page.locator("#text").focus()
    film.type(text)
    before = film.page.evaluate("genlangsplat.stage.times.painted")
    film.page.keyboard.press("Enter")
    film.page.wait_for_function("(before) => genlangsplat.stage.times.painted > before", arg=before)
    film.take(1200)


def film_query(film: Film, text: str) -> None:
    """A text, its answer, a look around, and what was found alone."""
    film.take(900)
    ask_by_keyboard(film, text)
    film.sway(4, 0.012)
    film.page.get_by_role("button", name="Isolate").click()
    film.take(900)
    film.sway(8, -0.012)
    film.take(1200)


def film_shared(film: Film, texts: tuple[str, ...]) -> None:
    """The given texts of a shared page, one after another."""
    film.take(900)
    for text in texts:
        film.page.locator("#given").get_by_text(text, exact=True).click()
        film.page.wait_for_timeout(500)
        film.take(1100)
    film.sway(6, 0.012)
    film.take(1200)


@dataclass(frozen=True, kw_only=True)
class Animations:
    """Draws the animations of the documents."""

    demo: Path
    """Output folder of `gen-langsplat demo`."""
    output_dir: Path
    """Folder for view.webp and share.webp."""
    text: str = "a cat"
    """The text to ask."""
    texts: tuple[str, ...] = ("a cat", "a motorcycle", "a temple")
    """The texts of the shared page."""

    def __call__(self) -> None:
        """Draws both."""
        run = config_of(self.demo)
        with served(run, None) as (address, _):
            self._draw(address, "view.webp", lambda film: film_query(film, self.text))
        folder = Path(tempfile.mkdtemp())
        try:
            shared = folder / "page"
            Share(load_config=run, texts=self.texts, single_file=True, output_dir=shared)()
            (document,) = shared.rglob("*.html")
            self._draw(document.as_uri(), "share.webp", lambda film: film_shared(film, self.texts))
        finally:
            shutil.rmtree(folder)

    def _draw(self, address: str, name: str, play: Callable[[Film], None]) -> None:
        with opened(address) as page:
            film = Film(page)
            play(film)
        film.save(self.output_dir / name)


if __name__ == "__main__":
    tyro.cli(Animations)()
