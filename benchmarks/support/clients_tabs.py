"""Clients in a browser: a tab of the viewer or of the page, with what a person does there."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from playwright.sync_api import Browser

WORDS = (
    *("a cat", "a fox", "a dog", "a painting", "a wall", "the floor", "a flower", "a bridge", "a boat", "water"),
    *("a tower", "the sky", "a tree", "wood", "metal", "glass", "a face", "fur", "a leaf", "a lamp", "a door"),
)

WATCH = """(() => {
  const lineOf = %s, began = %s;
  let last = "";
  window.asked = { at: null, lines: [] };
  const note = () => {
    const line = lineOf();
    if (line === last) return;
    last = line;
    window.asked.lines.push([performance.now(), line]);
  };
  setInterval(note, 20);
  const draw = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) => setTimeout(() => draw(callback), 500);
  window.cancelAnimationFrame = clearTimeout.bind(window);
  for (const kind of ["submit", "click"]) {
    addEventListener(kind, (event) => {
      if (!began(event)) return;
      note();
      window.asked = { at: performance.now(), lines: [] };
    }, true);
  }
})()"""
"""Notes in the tab when a text is asked, and each new answer line, because this process waits for other tabs too.

The tab draws only two pictures per second, so that the processor is left to the servers.
"""


class Deck:
    """Words that clients of one server ask one after the other; a word comes again when all others were asked."""

    def __init__(self, seed: int) -> None:
        self._words = random.Random(seed).sample(WORDS, len(WORDS))
        self._asked: dict[str, int] = {}
        self._next = 0

    def draw(self) -> tuple[int, str]:
        """Returns the number of the next question and its word."""
        number, word = self._next, self._words[self._next % len(self._words)]
        self._asked[word] = number
        self._next += 1
        return number, word

    def answers(self, shown: str, number: int) -> bool:
        """Whether a shown word answers a question: viewers share one panel, so that a newer question is an answer."""
        return self._asked.get(shown, -1) >= number


class Tab(ABC):
    """A client: a tab in a browser context of its own.

    Args:
        browser: The browser.
        address: Of the server.
        deck: The words of all clients of the server.
        patience: Seconds after which an action fails with playwright's TimeoutError.
    """

    ready: ClassVar[str]
    """A script that says whether the tab can be used."""
    line: ClassVar[str]
    """A function in the tab that returns the answer line."""
    began: ClassVar[str]
    """A function in the tab that says whether an event asks the text."""
    size: ClassVar[Any]
    """Small, because the browser draws on the processor that also serves."""
    free: ClassVar[tuple[float, float, float, float]]
    """Left, top, right and bottom of a part of the scene that nothing covers."""

    def __init__(self, browser: Browser, address: str, deck: Deck, patience: float) -> None:
        self._context, self._deck = browser.new_context(viewport=self.size), deck
        self._context.add_init_script(WATCH % (self.line, self.began))
        self._context.set_default_timeout(1000 * patience)
        self.page = self._context.new_page()
        self.page.goto(address, wait_until="commit")
        self._number, self._word = 0, ""

    def is_ready(self) -> bool:
        """Whether a person can begin."""
        return bool(self._evaluate(self.ready))

    def _evaluate(self, script: str) -> Any:
        """Runs a script in the tab; unlike `page.evaluate`, this does not wait for ever for a blocked tab."""
        return self.page.locator("html").evaluate(script)

    def ask(self) -> None:
        """Enters the next text; does not wait."""
        self._number, self._word = self._deck.draw()
        self._enter(self._word)

    def answered(self) -> float | None:
        """Seconds from Enter to the answer line; None while there is none."""
        asked = self._evaluate("window.asked")
        for at, line in asked["lines"]:
            if self._is_answer(line):
                return float(at - asked["at"]) / 1000
        return None

    def vanish(self) -> None:
        """Closes at once, whatever it waits for."""
        self._context.close()

    def drag(self, rng: random.Random) -> None:
        """Moves the camera with the mouse."""
        left, top, right, bottom = self.free
        mouse = self.page.mouse
        mouse.move(rng.uniform(left, right), rng.uniform(top, bottom))
        mouse.down()
        for _ in range(4):
            mouse.move(rng.uniform(left, right), rng.uniform(top, bottom))
        mouse.up()

    @abstractmethod
    def _enter(self, word: str) -> None:
        """Writes a text and asks it."""

    @abstractmethod
    def _is_answer(self, line: str) -> bool:
        """Whether a line answers the last question."""


class ViewerTab(Tab):
    """A tab of `ns-viewer`, whose panel all tabs share."""

    ready = "[...document.querySelectorAll('button')].some((button) => button.textContent === 'Ask')"
    line = """() => {
      const label = [...document.querySelectorAll("label")].find(({ textContent }) => textContent === "Answer");
      return label?.parentElement.parentElement.parentElement.querySelector("input")?.value ?? "";
    }"""
    began = "({ type, target }) => type === 'click' && target.closest?.('button')?.textContent === 'Ask'"
    size: ClassVar[Any] = {"width": 600, "height": 320}
    free = (20, 80, 260, 250)

    def _enter(self, word: str) -> None:
        box = self.page.locator('xpath=//label[text()="Texts"]/../../..').locator("input:visible").last
        box.fill(word)
        self.page.get_by_role("button", name="Ask", exact=True).click()

    def _is_answer(self, line: str) -> bool:
        return self._deck.answers(line.partition(" (best seen in ")[0], self._number)


class PageTab(Tab):
    """A tab of `gen-langsplat view`."""

    ready = "!!window.genlangsplat && genlangsplat.stage.times.shown.length > 0"
    line = "() => document.getElementById('answer')?.textContent ?? ''"
    began = "({ type, target }) => type === 'submit' && target.id === 'ask'"
    size: ClassVar[Any] = {"width": 400, "height": 500}
    free = (20, 330, 380, 420)

    def _enter(self, word: str) -> None:
        for _ in range(self.page.locator("#chips .remove").count()):
            self.page.locator("#chips .remove").first.click()
        self.page.fill("#text", word)
        self.page.press("#text", "Enter")

    def _is_answer(self, line: str) -> bool:
        return line.startswith(f"{self._word}: ")

    def click(self, rng: random.Random) -> None:
        """Clicks on the scene and does not wait."""
        left, top, right, bottom = self.free
        self.page.mouse.click(rng.uniform(left, right), rng.uniform(top, bottom))

    def named(self) -> bool:
        """Whether the click is answered; what it opened is closed then."""
        names = self._evaluate(
            "document.getElementById('click').open && document.getElementById('click-names').textContent"
        )
        if names:
            if names == "Looking ...":
                return False
            self.page.locator("#click-close").click()
        return True
