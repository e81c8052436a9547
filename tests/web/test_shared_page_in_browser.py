"""A shared page opened from disk, without a network: it shows the scene and answers all of its texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.scene_io.splat_files import read_splats
from genlangsplat_ns.web.share import make_shared_page
from tests.web.browser import ScenePage, wait_for
from tests.web.pages import page_scene

pytestmark = pytest.mark.slow

HOSTILE = '</script><img src=x onerror="window.broken=1">'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One HTML file of two clouds, in a folder with a space in its name."""
    scene = page_scene("two clouds")
    scene.model.scales.data += 1.0
    page = make_shared_page(scene, TextQuery(("left", "right", HOSTILE)), TextQuery(("a boat", "a goat")))
    folder = tmp_path_factory.mktemp("shared") / "a page"
    page.single_file().write(folder)
    return folder


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[ScenePage]:
    """The page, freshly opened without a network."""
    (path,) = folder.glob("*.html")
    page = ScenePage(browser, path.as_uri(), offline=True)
    yield page
    page.context.close()
    assert page.errors == []


def hot(picture: np.ndarray) -> float:
    """The share of pixels in the color of the first text, which is orange."""
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    return float(((red > 80) & (red > 1.4 * green) & (green > 1.3 * blue)).mean())


def halves(page: ScenePage) -> tuple[np.ndarray, np.ndarray]:
    """The drawn left and right cloud, without the middle where both are."""
    picture = page.picture()
    x = round(picture.shape[1] * (1 + page.evaluate("genlangsplat.stage.shift[0]")) / 2)
    return picture[:, : x - 60], picture[:, x + 160 :]


def test_the_given_texts_are_answered(opened: ScenePage) -> None:
    assert opened.page.locator("#name").text_content() == "two clouds"
    opened.press("left")
    opened.answer("left: ")
    left, right = halves(opened)
    assert hot(left) > 0.1 > 0.01 > hot(right)
    opened.page.locator("#chips .remove").click()
    opened.press("right")
    opened.answer("right: ")
    left, right = halves(opened)
    assert hot(right) > 0.1 > 0.01 > hot(left)
    opened.press(HOSTILE)
    opened.answer(f"{HOSTILE}: ")
    assert opened.evaluate("window.broken") is None


def test_the_vocabulary_is_searched(opened: ScenePage) -> None:
    opened.ask("goat", "a goat: ")
    opened.ask("a boat")
    opened.ask("a rocket", "no answer")
    assert opened.page.locator("#words option").count() == 5


def test_a_click_names_the_texts_that_fit(opened: ScenePage) -> None:
    x, y = opened.evaluate(
        "(() => { const {stage} = genlangsplat; return [innerWidth * (0.5 + stage.shift[0] / 2) - 70,"
        " innerHeight * (0.5 - stage.shift[1] / 2)]; })()"
    )
    opened.page.mouse.click(x, y)
    wait_for(lambda: opened.page.locator("#click-names button").count() == 5, "five names")
    assert opened.page.locator("#click-names button span").first.text_content() == "left"


def test_what_needs_a_server_is_not_shown(opened: ScenePage) -> None:
    opened.press("left")
    opened.answer("left: ")
    opened.page.click("summary")
    for hidden in ("#copy", "#negatives", "#level", "#click-like"):
        assert not opened.page.locator(hidden).is_visible(), hidden
    assert opened.page.locator("#threshold").is_visible()


def test_the_browser_saves_what_was_found(opened: ScenePage, folder: Path, tmp_path: Path) -> None:
    opened.press("left")
    opened.answer("left: ")
    opened.press("Isolate")
    opened.answer("Only the")
    ply = read_splats(opened.saved("Save PLY", tmp_path)).gaussians
    spz = read_splats(opened.saved("Save SPZ", tmp_path)).gaussians
    count = opened.evaluate("genlangsplat.asking.select().then((keep) => keep.reduce((a, b) => a + b))")
    assert len(ply) == len(spz) == count > 0
    assert float(spz.means[:, 0].max()) < 0.5, "the left cloud"
    for name in ("means", "scales", "quats", "features_dc", "opacities"):
        first, second = getattr(ply, name).numpy(), getattr(spz, name).numpy()
        if name == "quats":
            first, second = first * np.sign(first[:, :1]), second * np.sign(second[:, :1])
        np.testing.assert_allclose(first, second, atol=2e-3, err_msg=name)


def test_without_texts_of_its_own_the_scene_can_still_be_looked_at(browser: Any, tmp_path: Path) -> None:
    page = make_shared_page(page_scene("quiet"), TextQuery(("left",)))
    page.single_file().write(tmp_path / "page")
    (path,) = (tmp_path / "page").glob("*.html")
    opened = ScenePage(browser, path.as_uri(), offline=True)
    assert not opened.page.locator("#ask").is_visible(), "there is no word to search"
    assert opened.page.get_by_role("button", name="left", exact=True).is_visible()
    opened.context.close()
