"""Measures the page of a fox run in a headless browser: from Enter to recolored splats, its frames, and a shared page.

    python benchmarks/page.py --run RUN/config.yml --json page.json

The browser draws without a graphics card, on the processor that also serves. A part runs with the Gaussians of the run
and one with a million: copies of them. Times are from the key to the first picture with the new colors.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE
from support.benchmark import Benchmark, Goal, Results, Row
from support.browsers import running_browser
from support.page_server import serve_run
from support.page_share import measure_share
from support.processes import SPAWN
from support.tables import print_table, with_range

SIZE: Any = {"width": 1280, "height": 720}

WORDS = (
    *("a fox", "a wall", "flowers", "a picture frame", "a shield", "wood", "an ear", "a nose", "fur", "a window"),
    *("paper", "a leaf", "a rose", "a curtain", "an animal", "a dog", "a lamp", "a door", "metal", "glass", "a book"),
)
SHARED = (*WORDS, "a chair", "a cup", "a plant", "a shoe", "hair", "a mirror", "a box", "snow", "a wheel")
"""The texts of the shared page."""

PATIENCE = 600

MOVE = """async (seconds) => {
  const { stage } = genlangsplat;
  const start = stage.pose, first = performance.now(), seen = stage.times.shown.length;
  let gap = 0, last = first;
  while (performance.now() - first < 1000 * seconds) {
    const angle = 0.1 * Math.sin((performance.now() - first) / 700);
    stage.pose = { ...start, position: start.position.map((value, axis) => value + angle * start.right[axis]) };
    const now = await new Promise(requestAnimationFrame);
    gap = Math.max(gap, now - last);
    last = now;
  }
  const shown = stage.times.shown.slice(seen);
  const between = shown.slice(1).map((value, index) => value - shown[index]);
  stage.pose = start;
  return { gap, frames: shown.length / seconds, longest: Math.max(0, ...between), scale: stage.pace.scale };
}"""
"""Moves the camera for some seconds. Returns the longest time in which the page itself was blocked and the longest
between two pictures, in milliseconds, and pictures per second."""

ASK = """async (text) => {
  const { asking, stage } = genlangsplat;
  const began = performance.now();
  document.getElementById("text").value = text;
  document.getElementById("ask").requestSubmit();
  while (stage.times.painted < began) await new Promise(requestAnimationFrame);
  return stage.times.painted - began;
}"""
"""Asks a text as the key Enter does, and returns the milliseconds until the first picture with its colors."""


@contextmanager
def served(run: Path, gaussians: int | None) -> Iterator[tuple[str, psutil.Process]]:
    """The address of the page of a run, and the process of its server."""
    address, remote = SPAWN.Pipe()
    process = SPAWN.Process(target=serve_run, args=(run, gaussians, remote))
    process.start()
    try:
        wait([address, process.sentinel], PATIENCE)
        if not address.poll():
            raise GenLangSplatError(f"The server of {run} did not start within {PATIENCE} s. Open the run by hand.")
        yield f"http://127.0.0.1:{address.recv()}/", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join()


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """The page in a browser, when the scene is drawn."""
    with running_browser() as browser:
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(address)
        wait_until_drawn(page)
        yield page


def wait_until_drawn(page: Page) -> None:
    """Waits until the scene is drawn as fine as the screen."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate("!!window.genlangsplat && genlangsplat.stage.isComplete"):
        if time.monotonic() > end:
            raise GenLangSplatError(f"The page was not drawn within {PATIENCE} s.")
        time.sleep(0.1)


def memory_mb(process: psutil.Process) -> float:
    """The memory of a process and its children in megabytes."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6


def measure_texts(run: Path, gaussians: int | None, count: int) -> Row:
    """The first text and `count` more, each when the scene is drawn."""
    with served(run, gaussians) as (address, _), opened(address) as page:
        splats = page.evaluate("genlangsplat.scene.splats.count")
        times = []
        for word in WORDS[: count + 1]:
            times.append(page.evaluate(ASK, word))
            wait_until_drawn(page)
            page.evaluate("genlangsplat.asking.remove(genlangsplat.asking.state.chips[0])")
            wait_until_drawn(page)
    return {"part": "texts", "gaussians": splats, "first_ms": times[0], "next_ms": times[1:]}


def measure_row_of_texts(run: Path, seconds: float) -> Row:
    """Frames of a moving camera, without and with twenty texts in a row, and the memory of page and server."""
    with served(run, None) as (address, server), opened(address) as page:
        page.evaluate(ASK, WORDS[-1])
        wait_until_drawn(page)
        page.evaluate(MOVE, 2)
        calm = page.evaluate(MOVE, seconds)
        browser = psutil.Process()
        # One round before, because what the first texts need stays.
        ask_all = """(words) => { window.asked = (async () => { for (const word of words) {
            await genlangsplat.asking.ask(word); await genlangsplat.asking.remove(genlangsplat.asking.state.find(word));
        } })(); }"""
        page.evaluate(ask_all, list(WORDS[:20]))
        page.evaluate("window.asked")
        before = memory_mb(browser), memory_mb(server)
        page.evaluate(ask_all, [f"{word} again" for word in WORDS[:20]])
        busy = page.evaluate(MOVE, seconds)
        page.evaluate("window.asked")
        after = memory_mb(browser), memory_mb(server)
    grown = {"page_mb": after[0] - before[0], "server_mb": after[1] - before[1]}
    return {"part": "row of texts", "without": calm, "with": busy, "grown": grown}


@dataclass(frozen=True, kw_only=True)
class PageBenchmark(Benchmark):
    """Measures the page of a run."""

    run: Path
    """The config.yml of a finished run, such as that of the fox scene."""
    quick: bool = False
    """Ask fewer texts, and move the camera for less time."""

    def measure(self) -> Results:
        """Measures and prints all parts."""
        counts = (3, 3) if self.quick else (20, 8)
        texts = [
            measure_texts(self.run, gaussians, count)
            for gaussians, count in zip((None, 1_000_000), counts, strict=True)
        ]
        row = measure_row_of_texts(self.run, 4 if self.quick else 15)
        cells = [
            (
                f"{each['gaussians']:,}",
                f"{each['first_ms']:.0f}",
                with_range(statistics.median(each["next_ms"]), min(each["next_ms"]), max(each["next_ms"]), ".0f"),
            )
            for each in texts
        ]
        print_table(("Gaussians", "first text, ms", "next texts, ms"), cells, "From Enter to recolored splats")
        cells = [
            (name, f"{found['frames']:.1f}", f"{found['longest']:.0f}", f"{found['gap']:.0f}")
            for name, found in (("no text", row["without"]), ("20 texts in a row", row["with"]))
        ]
        headings = ("", "pictures/s", "longest between pictures, ms", "page blocked at most, ms")
        print_table(headings, cells, "While the camera moves")
        grown = row["grown"]
        CONSOLE.print(
            f"Memory after 20 more texts: page {grown['page_mb']:+.0f} MB, server {grown['server_mb']:+.0f} MB."
        )
        with running_browser() as browser:
            share = measure_share(self.run, SHARED, browser, wait_until_drawn)
        CONSOLE.print(
            f"Shared page: one file of {share['bytes'] / 1e6:.1f} MB answers {share['texts']} texts from disk. "
            f"Hot pixels in {len(share['views'])} views: {share['hot_fox']:.1%} of the fox, "
            f"{share['hot_wall']:.1%} of the others."
        )
        small, large = (statistics.median(each["next_ms"]) for each in texts)
        return [*texts, row, share], [
            Goal("fox: from Enter to recolored splats, ms", small, "<=", 300),
            Goal("fox: the first text, ms", texts[0]["first_ms"], "<=", 6000),
            Goal("1,000,000 Gaussians: from Enter to recolored splats, ms", large, "<=", 1500),
            Goal("page blocked by texts, ms more", row["with"]["gap"] - row["without"]["gap"], "<=", 100),
            Goal("memory of the page after 20 more texts, MB more", grown["page_mb"], "<=", 50),
            Goal("memory of the server after 20 more texts, MB more", grown["server_mb"], "<=", 50),
            Goal(f"shared page: one file with {len(SHARED)} texts, MB", share["bytes"] / 1e6, "<=", 12),
            Goal("shared page: texts that are not answered", len(SHARED) - share["texts"], "<=", 0),
            Goal("shared page: share of the fox's pixels that are hot", share["hot_fox"], ">=", 0.9),
            Goal("shared page: share of the other pixels that are hot", share["hot_wall"], "<=", 0.2),
        ]


if __name__ == "__main__":
    PageBenchmark.main()
