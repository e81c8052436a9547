"""The page of a running server, driven as a user drives it: ask, look, click, cut out, save."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns.scene_io.splat_files import read_splats
from genlangsplat_ns.web.live_scene import LiveScene
from tests.web.browser import NARROW, RunningServer, ScenePage, wait_for

pytestmark = pytest.mark.slow

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"


def parts(page: ScenePage) -> tuple[np.ndarray, np.ndarray]:
    """The drawn left and right cloud, as (height, width, 3); between and beside them is the ground."""
    picture = page.picture()
    x = round(picture.shape[1] * (1 + page.evaluate("genlangsplat.stage.shift[0]")) / 2)
    return picture[:, :x], picture[:, x:]


def color(part: np.ndarray) -> float:
    """How much color a part of a picture has: the mean distance between its channels."""
    return float((part.max(axis=2) - part.min(axis=2)).mean())


def change(before: np.ndarray, after: np.ndarray) -> float:
    """The mean change of the pixels of a picture."""
    return float(np.abs(before - after).mean())


def test_the_scene_is_drawn_and_the_text_box_has_the_focus(opened: ScenePage) -> None:
    assert opened.evaluate("document.activeElement.id") == "text"
    assert opened.page.title().startswith("clouds")
    left, right = parts(opened)
    assert left.std() > 10 and right.std() > 10
    assert opened.page.locator("#photographs button").count() == 2


def test_an_answer_recolors_what_was_found_and_grays_the_rest(opened: ScenePage) -> None:
    before = parts(opened)
    opened.ask("left", "left: ")
    left, right = parts(opened)
    found = left.reshape(-1, 3)[left.reshape(-1, 3).max(axis=1) > 60].mean(axis=0)
    # The first chip is orange.
    assert found[0] > found[1] > found[2] and color(left) > 3 * color(right)
    assert color(right) < 0.3 * color(before[1])

    opened.ask("right", "right: ")
    assert opened.page.locator("#chips .chip").count() == 2
    assert color(parts(opened)[1]) > 3 * color(right), "the second text has a color of its own"

    opened.page.locator("#chips .toggle").first.click()
    opened.answer("right: ")
    assert color(parts(opened)[0]) < 0.4 * color(left), "the first text is switched off"

    while opened.page.locator("#chips .remove").count():
        opened.page.locator("#chips .remove").first.click()
    wait_for(lambda: opened.page.locator("#answer").text_content() == "", "no answer")
    assert change(before[0], parts(opened)[0]) < 1, "without texts the scene has its own colors"


def test_settings_move_without_the_server(opened: ScenePage) -> None:
    opened.ask("left", "left: ")
    requests: list[str] = []
    opened.page.on("request", lambda request: requests.append(request.url))
    opened.page.click("summary")
    few = opened.page.locator("#answer").text_content()
    opened.page.fill("#threshold", "0")
    many = wait_for(lambda: (text := opened.page.locator("#answer").text_content()) != few and text, "another answer")
    assert "550" in many, "all that was ever seen is above 0"
    opened.page.select_option("#level", "part")
    opened.page.fill("#softness", "0.3")
    calm = parts(opened)
    opened.page.select_option("#look", "heat")
    wait_for(lambda: change(calm[0], parts(opened)[0]) > 5, "the heat")
    assert opened.page.locator("#legend").is_visible()
    assert requests == []

    opened.page.fill("#negatives", "nothing")
    opened.page.press("#negatives", "Enter")
    wait_for(lambda: any("api/texts" in url for url in requests), "a request for the new negative")


def test_a_picture_with_fewer_splats_looks_alike(opened: ScenePage) -> None:
    whole = opened.picture()
    opened.evaluate("document.querySelectorAll('#panel, #photographs').forEach((e) => { e.hidden = true; })")
    # As while the camera moves, but with all pixels and a quarter of the splats.
    shown = opened.evaluate("""(() => {
      const { stage } = genlangsplat;
      stage.pace.scale = 1;
      stage.pace.most = stage.renderer.seen / 4;
      stage.begin(stage.pose, true, performance.now());
      stage.schedule();
      return stage.times.shown.length;
    })()""")
    wait_for(lambda: opened.evaluate("genlangsplat.stage.times.shown.length") > shown, "a coarse picture")
    assert 0 < opened.evaluate("genlangsplat.stage.renderer.drawn") < 200
    thinned = np.asarray(Image.open(io.BytesIO(opened.page.screenshot())).convert("RGB")).astype(np.float32)
    empty = np.broadcast_to(whole[0, 0], whole.shape)
    assert 0.2 < change(whole, thinned) < 0.5 * change(whole, empty)
    opened.evaluate("genlangsplat.stage.invalidate()")
    opened.wait_until_drawn()
    assert opened.evaluate("genlangsplat.stage.renderer.drawn === genlangsplat.stage.renderer.seen")


def test_isolate_hide_and_peaks(opened: ScenePage) -> None:
    before, sides = opened.picture(), parts(opened)
    opened.ask("left", "left: ")
    shown = parts(opened)
    opened.press("Isolate")
    opened.answer("Only the")
    # What was found has its own colors again, and the rest is gone.
    assert change(sides[0], parts(opened)[0]) < change(sides[1], parts(opened)[1])
    opened.ask("right", "right: ")
    assert color(parts(opened)[1]) > 10, "a new text is looked for in the whole scene"
    opened.page.locator("#chips .remove").last.click()
    opened.press("Isolate")
    opened.answer("Only the")
    opened.press("Show all")
    opened.answer("Everything")
    opened.press("Hide")
    opened.answer("are hidden")
    assert change(shown[0], parts(opened)[0]) > 3
    opened.press("Show all")
    opened.press("Next peak")
    opened.answer("Place 1 of")
    wait_for(lambda: change(before, opened.picture()) > 5, "another view")
    count = opened.evaluate("genlangsplat.stage.times.shown.length")
    opened.page.wait_for_timeout(700)
    assert opened.evaluate("genlangsplat.stage.times.shown.length") <= count + 1, "nothing is drawn without a change"


def test_what_was_found_is_saved(opened: ScenePage, clouds: LiveScene, tmp_path: Path) -> None:
    opened.ask("left", "left: ")
    keep = np.array(opened.evaluate("genlangsplat.asking.select().then((keep) => [...keep])"), bool)
    means = clouds.page.gaussians().means.numpy()[keep]
    for kind in ("PLY", "SPZ"):
        path = opened.saved(f"Save {kind}", tmp_path)
        opened.answer(f"{keep.sum()} splats are saved")
        assert path.name == f"left.{kind.lower()}"
        np.testing.assert_allclose(read_splats(path).gaussians.means.numpy(), means, atol=1e-4)


def test_the_copied_command_asks_the_same(opened: ScenePage) -> None:
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.ask("left; it's $(reboot)", "it's $(reboot): ")
    opened.page.click("summary")
    opened.page.fill("#threshold", "0.65")
    opened.press("Copy command")
    opened.answer("Copied")
    words = shlex.split(opened.evaluate("navigator.clipboard.readText()"))
    assert words == [
        *("gen-langsplat", "export", "--load-config", "RUN/config.yml", "--text", "left", "it's $(reboot)"),
        *("--threshold", "0.65", "--output", "object.ply"),
    ]


def test_texts_that_look_like_options_stay_texts(opened: ScenePage) -> None:
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.ask("--overwrite; left", "left: ")
    opened.press("Copy command")
    opened.answer("Copied")
    words = shlex.split(opened.evaluate("navigator.clipboard.readText()"))
    assert "--text=--overwrite; left" in words


def test_a_click_names_what_is_here_and_finds_its_like(opened: ScenePage) -> None:
    opened.page.click("summary")
    opened.page.fill("#threshold", "0.5")
    # The left cloud's middle, in the picture.
    x, y = opened.evaluate(
        "(() => { const {stage} = genlangsplat; return [innerWidth * (0.5 + stage.shift[0] / 2) - 70,"
        " innerHeight * (0.5 - stage.shift[1] / 2)]; })()"
    )
    opened.page.mouse.click(x, y)
    wait_for(lambda: opened.page.locator("#click-names button").count() == 5, "five names")
    opened.press("Find what looks like this")
    opened.answer("like the clicked thing")
    left, right = parts(opened)
    assert color(left) > 2 * color(right)
    opened.page.mouse.click(x, y)
    wait_for(lambda: opened.page.locator("#click-names button").count() == 5, "five names")
    name = opened.page.locator("#click-names button span").first.text_content()
    opened.page.locator("#click-names button").first.click()
    opened.answer(f"{name}: ")


def test_mouse_wheel_keys_and_photographs_move_the_camera(opened: ScenePage) -> None:
    def pose() -> np.ndarray:
        return np.array(opened.evaluate("[...genlangsplat.stage.pose.position, ...genlangsplat.stage.pose.back]"))

    start = pose()
    opened.page.mouse.move(600, 300)
    opened.page.mouse.down()
    opened.page.mouse.move(680, 330, steps=4)
    opened.page.mouse.up()
    dragged = pose()
    assert np.abs(dragged - start).max() > 0.1
    reach = opened.evaluate("genlangsplat.stage.pose.reach")
    opened.page.mouse.wheel(0, -200)
    wait_for(lambda: opened.evaluate("genlangsplat.stage.pose.reach") < reach, "a nearer camera")
    opened.page.focus("#scene")
    for key in ("ArrowLeft", "w", "e", "Shift+ArrowUp", "+"):
        before = pose()
        opened.page.keyboard.press(key, delay=120)
        wait_for(lambda before=before: not np.array_equal(pose(), before), f"a move by {key}")
    opened.page.keyboard.press("]")
    wait_for(lambda: opened.page.locator("#photographs button").nth(1).get_attribute("aria-current") == "true", "next")
    opened.page.locator("#photographs button").first.click()
    wait_for(lambda: np.allclose(pose(), start), "the first photograph")


def test_touch_turns_and_pinches(browser: Any, server: RunningServer) -> None:
    page = ScenePage(browser, server.address, viewport=NARROW, has_touch=True, is_mobile=True)
    client = page.context.new_cdp_session(page.page)

    def touch(kind: str, *points: tuple[int, int]) -> None:
        described = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": described})

    position = page.evaluate("genlangsplat.stage.pose.position")
    touch("touchStart", (200, 500))
    for step in range(5):
        touch("touchMove", (200 + 15 * step, 500))
    touch("touchEnd")
    wait_for(lambda: page.evaluate("genlangsplat.stage.pose.position") != position, "a turned camera")
    reach = page.evaluate("genlangsplat.stage.pose.reach")
    touch("touchStart", (150, 500), (250, 500))
    for step in range(5):
        touch("touchMove", (150 - 12 * step, 500), (250 + 12 * step, 500))
    touch("touchEnd")
    wait_for(lambda: page.evaluate("genlangsplat.stage.pose.reach") < 0.8 * reach, "a nearer camera")
    assert page.errors == []
    page.context.close()


def test_a_tap_opens_what_is_here(browser: Any, server: RunningServer) -> None:
    page = ScenePage(browser, server.address, viewport=NARROW, has_touch=True, is_mobile=True)
    middle = page.evaluate("[innerWidth / 2 - 40, innerHeight * (0.5 - genlangsplat.stage.shift[1] / 2)]")
    page.page.touchscreen.tap(*middle)
    # The browser sends the click of a tap after its touches; it must not close the dialog again.
    wait_for(lambda: page.page.locator("#click-names button").count() == 5, "five names")
    assert page.page.locator("#click").is_visible()
    assert page.errors == []
    page.context.close()


def test_keys_of_the_page(opened: ScenePage) -> None:
    opened.page.press("#text", "Escape")
    assert opened.evaluate("document.activeElement.id") == "scene"
    opened.page.keyboard.press("?")
    assert opened.page.locator("#help").is_visible()
    opened.page.keyboard.press("Escape")
    theme = opened.evaluate("document.documentElement.dataset.theme")
    opened.page.keyboard.press("t")
    assert opened.evaluate("document.documentElement.dataset.theme") != theme
    opened.page.keyboard.press("/")
    opened.page.keyboard.type("left?")
    assert not opened.page.locator("#help").is_visible(), "a key that is written is no command"
    opened.page.fill("#text", "left")
    opened.page.keyboard.press("Enter")
    opened.answer("left: ")
    opened.page.keyboard.press("Escape")
    opened.page.keyboard.press("1")
    opened.answer("switched off")
    opened.page.keyboard.press("1")
    opened.answer("left: ")
    opened.page.keyboard.press("i")
    opened.answer("Only the")


def test_a_browser_without_webgl_gets_a_sentence(browser: Any, server: RunningServer) -> None:
    page = ScenePage(browser, server.address, wait=False, script="HTMLCanvasElement.prototype.getContext = () => null;")
    wait_for(lambda: page.page.locator("#failure").is_visible(), "the sentence")
    assert "WebGL2" in str(page.page.locator("#failure").text_content())
    assert not page.page.locator("#panel").is_visible()
    page.context.close()


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("viewport", [None, NARROW], ids=["wide", "narrow"])
def test_nothing_keeps_anyone_out(
    browser: Any, server: RunningServer, scheme: str, viewport: dict[str, int] | None
) -> None:
    if not AXE.exists():
        pytest.skip("needs axe-core: make page")
    page = ScenePage(browser, server.address, color_scheme=scheme, **({"viewport": viewport} if viewport else {}))
    page.ask("left; right", "right: ")
    page.page.click("summary")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    run = "axe.run({resultTypes: ['violations']}).then((found) => found.violations.map((one) => [one.impact, one.id, "
    run += "one.nodes.map((node) => node.html.slice(0, 120))]))"
    faults = page.evaluate(run)
    page.page.click("#help-button")
    faults += page.evaluate(run)
    assert [fault for fault in faults if fault[0] in ("serious", "critical")] == []
    wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner, "nothing is wider than the screen"
    page.context.close()


def test_without_motion_a_flight_is_over_at_once(browser: Any, server: RunningServer) -> None:
    page = ScenePage(browser, server.address, reduced_motion="reduce")
    before = page.evaluate("genlangsplat.stage.pose.position")
    page.ask("left", "left: ")
    page.press("Next peak")
    page.answer("Place 1")
    assert page.evaluate("genlangsplat.stage.pose.position") != before
    page.context.close()
