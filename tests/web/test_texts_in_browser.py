"""Texts of the page: late, failing, unusual and hostile ones, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genlangsplat_ns.language.settings import DEFAULT_NEGATIVES
from genlangsplat_ns.scene_io.splat_files import read_splats
from tests.web.browser import RunningServer, ScenePage, wait_for
from tests.web.pages import live_scene, page_scene

pytestmark = pytest.mark.slow

HOSTILE = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>'


@pytest.fixture
def held(opened: ScenePage) -> Iterator[list[Any]]:
    """Requests for texts, held back until the test lets each go with `fallback`."""
    held: list[Any] = []
    opened.page.route("**/api/texts", lambda route: held.append(route))
    yield held


def release(page: Any, held: list[Any]) -> None:
    """Lets a request go, once it has come."""
    # The browser's events arrive while the page is asked something.
    wait_for(lambda: page.evaluate("true") and held, "the request")
    held.pop().fallback()


def negatives(page: ScenePage, line: str) -> None:
    """Enters other texts to compare with."""
    page.page.fill("#negatives", line)
    page.page.press("#negatives", "Enter")


def question(page: ScenePage) -> dict[str, Any]:
    """What the page asks."""
    return page.evaluate("genlangsplat.asking.state.question()")


def relevancy(page: ScenePage) -> list[float]:
    """How the first splats fit the shown texts: their colors in the heat of the answer."""
    return page.evaluate("""(async () => {
      const { answers, state } = genlangsplat.asking;
      const { paint } = await answers.ask({ kind: "paint", question: { ...state.question(), heat: true } });
      return [...paint.slice(0, 2200)];
    })()""")


def test_a_late_answer_does_not_hide_what_went_wrong_since(opened: ScenePage, held: list[Any]) -> None:
    opened.page.click("summary")
    opened.page.fill("#text", "left")
    opened.page.press("#text", "Enter")
    negatives(opened, " ; ")
    opened.answer("at least one")
    release(opened.page, held)
    wait_for(lambda: opened.page.locator(".chip.waiting").count() == 0, "the answer")
    opened.wait_until_drawn()
    opened.answer("at least one")
    opened.page.fill("#threshold", "0")
    opened.answer("left: ")


def test_new_negatives_count_when_their_scores_are_there(opened: ScenePage, held: list[Any]) -> None:
    opened.page.click("summary")
    opened.page.fill("#text", "left")
    opened.page.press("#text", "Enter")
    release(opened.page, held)
    before = opened.answer("left: ")
    old = question(opened)["negatives"]
    negatives(opened, "right")
    # What is painted meanwhile is still compared with the old ones, and is not taken for the new answer later.
    opened.page.select_option("#look", "heat")
    assert opened.answer("left: ") == before and question(opened)["negatives"] == old
    release(opened.page, held)
    wait_for(lambda: question(opened)["negatives"] == ["right"], "the new negative")
    compared = relevancy(opened)
    opened.page.unroute("**/api/texts")
    negatives(opened, "; ".join(old))
    wait_for(lambda: question(opened)["negatives"] == old, "the old negatives")
    assert relevancy(opened) != compared
    negatives(opened, "right")
    wait_for(lambda: question(opened)["negatives"] == ["right"], "the new negative again")
    assert relevancy(opened) == compared

    opened.page.route("**/api/texts", lambda route: route.fulfill(status=400, json={"error": "It is too long."}))
    negatives(opened, "something else")
    opened.answer("It is too long.")
    assert question(opened)["negatives"] == ["right"], "the texts that failed do not count"


def test_a_text_asked_while_the_scene_loads(browser: Any, server: RunningServer) -> None:
    context = browser.new_context()
    loading = context.new_page()
    held: list[Any] = []
    loading.route("**/scene.spz", lambda route: held.append(route))
    loading.goto(server.address)
    loading.fill("#text", "left")
    loading.press("#text", "Enter")
    wait_for(lambda: loading.locator(".chip.waiting").count() == 1, "a waiting text")
    release(loading, held)
    wait_for(lambda: "left: " in str(loading.locator("#answer").text_content()), "the answer")
    context.close()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (DEFAULT_NEGATIVES[0], "Compared with"),
        ("  ;  ", "for example"),
        (HOSTILE, f"{HOSTILE}: "),
        ("🦊 狐狸", "🦊 狐狸: "),
    ],
    ids=["negative", "blank", "markup", "other-letters"],
)
def test_unusual_texts(opened: ScenePage, text: str, answer: str) -> None:
    opened.ask(text, answer)
    assert opened.evaluate("window.broken") is None
    assert opened.page.locator("#panel img, #panel script").count() == 0


def test_a_text_of_ten_thousand_characters_is_refused_or_cut(opened: ScenePage) -> None:
    opened.evaluate("(text) => void genlangsplat.asking.ask(text)", "x" * 10_000)
    assert "1,000" in opened.answer("characters")
    assert opened.page.locator("#chips .chip").count() == 0
    assert opened.page.locator("#text").get_attribute("maxlength") == "1000"


def test_texts_in_a_row_are_all_answered(opened: ScenePage) -> None:
    words = [f"thing {number}" for number in range(8)]
    for word in words:
        opened.page.fill("#text", word)
        opened.page.press("#text", "Enter")
    opened.answer("thing 7: ")
    wait_for(lambda: opened.page.locator("#chips .chip.waiting").count() == 0, "all answers")
    assert [opened.page.locator("#chips .chip").nth(place).text_content() for place in range(8)] == [
        f"{word}✕" for word in words
    ]
    colors = opened.evaluate("genlangsplat.asking.state.chips.map((chip) => chip.color.join())")
    assert len(set(colors)) == 8


def test_the_server_vanishes_and_the_page_stays_usable(browser: Any, tmp_path: Path) -> None:
    live = live_scene(page_scene("gone"))
    server = RunningServer(live)
    page = ScenePage(browser, server.address)
    page.ask("left", "left: ")
    server.stop()
    page.ask("right", "does not answer any more")
    assert page.page.locator("#chips .chip").count() == 1
    page.press("Isolate")
    page.answer("Only the")
    path = page.saved("Save PLY", tmp_path)
    count = page.evaluate("genlangsplat.asking.select().then((keep) => keep.reduce((a, b) => a + b))")
    assert len(read_splats(path).gaussians) == count > 0
    page.page.mouse.click(600, 320)
    page.answer("does not answer any more")
    assert page.errors == []
    page.context.close()
    live.stop()


def test_names_and_texts_of_a_run_never_become_markup(browser: Any) -> None:
    name = HOSTILE.replace("/", "")
    live = live_scene(page_scene(name), texts=(HOSTILE,))
    server = RunningServer(live)
    page = ScenePage(browser, server.address)
    page.answer(f"{HOSTILE}: ")
    assert page.page.locator("#name").text_content() == name
    assert page.evaluate("window.broken") is None and page.errors == []
    page.context.close()
    server.stop()
    live.stop()
