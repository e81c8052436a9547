"""A shared page of the fox scene as one file: its size, and whether the fox is hot and the wall is not."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fox import labels_of, read_frames
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView
from genlangsplat_ns.web.share import make_shared_page
from support.benchmark import Row

TEXT = "a fox"

ALL = """async () => {
  const { asking, scene } = genlangsplat;
  const answered = [];
  for (const { text } of scene.answers) {
    await asking.ask(text);
    if (asking.facts.some(({ key }) => key === text)) answered.push(text);
    await asking.remove(asking.state.find(text));
  }
  return answered;
}"""
"""Asks every text of the page, and returns those that were answered."""

LOOK_STRAIGHT = "() => { const { stage } = genlangsplat; stage.shift = [0, 0]; stage.pose = { ...stage.pose }; }"
"""Puts the middle of the view into the middle of the page, where it is in the photograph."""

BARE = (
    "() => document.querySelectorAll('#panel, #photographs').forEach((part) => { part.style.visibility = 'hidden'; })"
)


def measure_share(run: Path, texts: tuple[str, ...], browser: Any, wait_until_drawn: Any) -> Row:
    """Writes the page, opens it from disk without a network, and looks at its pixels in the outlined views."""
    scene = open_run(run)
    with tempfile.TemporaryDirectory() as folder:
        page = make_shared_page(scene, TextQuery(texts)).single_file()
        page.write(Path(folder) / "page")
        (path,) = (Path(folder) / "page").glob("*.html")
        size = path.stat().st_size
        outlined = [view for view in scene.views() if read_frames()[view.name]["objects"]]
        truth = {view.name: scene.undistort_labels(labels_of(read_frames()[view.name]), view) for view in outlined}
        shares = []
        for view in outlined:
            mask = truth[view.name].truth("fox").mask
            hot = _hot_pixels(path, scene, view, mask.shape, browser, wait_until_drawn)
            shares.append((float(hot[mask].mean()), float(hot[~mask].mean())))
        context = browser.new_context(offline=True)
        opened = context.new_page()
        opened.goto(path.as_uri())
        wait_until_drawn(opened)
        answered = opened.evaluate(ALL)
        context.close()
    fox, wall = (sum(values) / len(shares) for values in zip(*shares, strict=True))
    return {"part": "share", "bytes": size, "texts": len(answered), "hot_fox": fox, "hot_wall": wall, "views": shares}


def _hot_pixels(
    path: Path, scene: LanguageScene, view: SceneView, size: tuple[int, ...], browser: Any, wait_until_drawn: Any
) -> np.ndarray:
    """The pixels of a view in the color of the first text, orange; the rest of the page is gray. As (height, width)."""
    height, width = size
    context = browser.new_context(
        offline=True, reduced_motion="reduce", viewport={"width": width, "height": height}, color_scheme="dark"
    )
    page = context.new_page()
    page.set_default_timeout(600_000)
    page.goto(path.as_uri())
    wait_until_drawn(page)
    page.evaluate(f"genlangsplat.asking.ask({TEXT!r})")
    names = page.evaluate("genlangsplat.scene.views.map(({ name }) => name)")
    page.locator("#photographs button").nth(names.index(view.name)).click()
    page.evaluate(LOOK_STRAIGHT)
    page.evaluate(BARE)
    wait_until_drawn(page)
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(np.float32)
    context.close()
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    return (red > 1.4 * green) & (green > 1.3 * blue) & (red > 40)
