"""A load of clients: viewers and pages at once that ask, look around, and vanish, in front of the real commands."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Error

from genlangsplat_ns.errors import GenLangSplatError
from support.benchmark import Goal
from support.browsers import running_browser
from support.clients_servers import STOPPING, RunServer, running_servers
from support.clients_tabs import Deck, PageTab, Tab, ViewerTab
from support.processes import in_own_process
from support.robustness_load import figures

CLIENTS = 4
"""Clients of each server at a time."""

DEADLOCK = 120.0
"""Seconds without an answer after which a server counts as blocked."""

STAY = (1.0, 90.0)
"""Shortest and longest stay of a client in seconds."""

PAUSE = (0.2, 2.0)
"""Shortest and longest pause of a person between two actions in seconds."""

LOOKED = 0.25
"""Seconds between two looks at a tab. It notes exactly itself when it is answered."""

SAMPLED = 2.0
"""Seconds between two samples of the memory."""

STOPPED = 10.0
"""Seconds that a server may take to end after Ctrl-C."""

Act = Literal["ask", "drag", "click"]


@dataclass(frozen=True)
class Visit:
    """How one client comes and goes."""

    seconds: float
    """When it vanishes, after it came."""
    amid_answer: bool
    """Whether it asks first, and vanishes before the answer."""


def visits(seed: int, seat: str) -> Iterator[Visit]:
    """Yields the visits of the clients that take one seat after each other; the same for the same seed."""
    rng = random.Random(f"{seed} {seat} visits")
    while True:
        yield Visit(rng.uniform(*STAY), rng.random() < 0.5)


@dataclass
class ServerLoad:
    """What the clients of one server found."""

    name: str
    seconds: list[float] = field(default_factory=list)
    """From Enter to the answer line."""
    memory: list[float] = field(default_factory=list)
    """Kilobytes of the server, evenly sampled."""
    clicks: int = 0
    """Clicks that were answered."""
    drags: int = 0
    clients: int = 0
    """Clients that came."""
    vanished: int = 0
    """Clients that vanished, and how many of them while they waited for anything."""
    vanished_waiting: int = 0
    longest: float = 0.0
    """Longest wait for anything in seconds, also without an end."""
    answers_after: bool = False
    """Whether a new client was answered after the load."""
    stop: float = STOPPING
    """Seconds from Ctrl-C to the end of the process."""
    foreign_errors: dict[str, int] = field(default_factory=dict)
    """Errors that nerfstudio or viser wrote without any code of this package, and how often."""
    findings: list[str] = field(default_factory=list)
    """What must not be: waits without an end, and errors of this package."""

    def row(self, minutes: float) -> dict[str, Any]:
        """The figures, with the slope of the memory per minute."""
        row = figures(self.name, self.seconds or [self.longest], self.memory)
        per_minute = len(self.memory) / minutes
        row |= {name: per_minute * row[name] for name in ("slope_kb", "slope_low_kb", "slope_high_kb")}
        counts = {name: getattr(self, name) for name in ("clients", "vanished", "vanished_waiting", "clicks", "drags")}
        ends = {"longest_s": self.longest, "answers_after": int(self.answers_after), "stop_s": self.stop}
        errors = {"foreign_errors": self.foreign_errors, "findings": self.findings}
        return {**row, "per": "minute", "answers": len(self.seconds), **counts, **ends, **errors}


class Seat:
    """A place that one client after the other takes.

    Args:
        load: Where the figures go.
        arrive: Opens a tab.
        acts: What its clients do.
        schedule: When they vanish.
        rng: Chooses actions and pauses.
    """

    def __init__(
        self,
        load: ServerLoad,
        arrive: Callable[[], Tab],
        acts: tuple[Act, ...],
        schedule: Iterator[Visit],
        rng: random.Random,
    ) -> None:
        self._load, self._arrive, self._acts, self._schedule, self._rng = load, arrive, acts, schedule, rng
        self._tab: Tab | None = None

    def step(self) -> None:
        """Does what is due, without waiting for an answer."""
        try:
            self._step()
        except Error as error:
            # Also a timeout, after DEADLOCK seconds.
            self._load.findings.append(f"a tab failed: {str(error).splitlines()[0]}")

    def _step(self) -> None:
        now = time.monotonic()
        if self._tab is None:
            self._visit = next(self._schedule)
            self._came, self._since, self._awaited = now, now, "arrival"
            self._tab = self._arrive()
            self._load.clients += 1
        elif now - self._came > self._visit.seconds:
            self._vanish(self._tab)
        elif self._awaited:
            self._await(self._tab)
        elif now > self._rests:
            self._act(self._tab, self._rng.choice(self._acts))

    def _await(self, tab: Tab) -> None:
        """Looks whether what the client waits for has come."""
        waited = time.monotonic() - self._since
        came = self._came_in(tab)
        # Only the tab knows exactly when the answer line came, so that the wait here may be longer.
        self._load.longest = max(self._load.longest, waited)
        if came:
            self._awaited = ""
            self._rests = time.monotonic() + self._rng.uniform(*PAUSE)
        elif waited > DEADLOCK:
            self._load.findings.append(f"no {self._awaited} within {DEADLOCK:.0f} s")

    def _came_in(self, tab: Tab) -> bool:
        if self._awaited == "arrival":
            return tab.is_ready()
        if self._awaited == "names of a click":
            assert isinstance(tab, PageTab), "only pages are clicked"
            named = tab.named()
            self._load.clicks += named
            return named
        seconds = tab.answered()
        if seconds is not None:
            self._load.seconds.append(seconds)
        return seconds is not None

    def _act(self, tab: Tab, act: Act) -> None:
        self._since = time.monotonic()
        if act == "drag":
            tab.drag(self._rng)
            self._load.drags += 1
            self._rests = time.monotonic() + self._rng.uniform(*PAUSE)
        elif act == "click":
            assert isinstance(tab, PageTab), "only pages are clicked"
            tab.click(self._rng)
            self._awaited = "names of a click"
        else:
            tab.ask()
            self._awaited = "answer"

    def _vanish(self, tab: Tab) -> None:
        if self._visit.amid_answer and not self._awaited:
            self._act(tab, "ask")
        tab.vanish()
        self._tab = None
        self._load.vanished += 1
        self._load.vanished_waiting += bool(self._awaited)

    def leave(self) -> None:
        """Closes the tab at the end of the load."""
        if self._tab is not None:
            self._tab.vanish()


def clients(run: Path | None, minutes: float, seed: int) -> list[dict[str, Any]]:
    """Loads the viewer and the page of a run with clients.

    Args:
        run: The config.yml of a run; None trains a small one first.
        minutes: Duration of the load.
        seed: Of the visits, words and actions.

    Returns:
        The figures of each server.

    Raises:
        GenLangSplatError: There is no such run, no browser, or a server does not open or ends.
    """
    if run is not None and not run.is_file():
        raise GenLangSplatError(f"Found no file {run}, expected the config.yml of a run. Give another --run.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = run if run is not None else Path(in_own_process(train_small_run, folder)["config"])
        with running_servers(config, folder) as servers, running_browser() as browser:
            return load_servers(browser, *servers, minutes, seed)


def load_servers(
    browser: Browser, viewer: RunServer, page: RunServer, minutes: float, seed: int, clients: int = CLIENTS
) -> list[dict[str, Any]]:
    """Loads running servers with so many clients each, checks that both still answer, and stops them."""
    loads = [(ServerLoad("viewer server"), viewer, ViewerTab), (ServerLoad("page server"), page, PageTab)]
    acts: dict[type[Tab], tuple[Act, ...]] = {ViewerTab: ("ask", "drag"), PageTab: ("ask", "drag", "click")}
    arrivals, seats = [], []
    for load, server, tab in loads:
        arrive = partial(tab, browser, server.address, Deck(seed), DEADLOCK)
        arrivals.append(arrive)
        for number in range(clients):
            name = f"{load.name} {number}"
            rng = random.Random(f"{seed} {name} actions")
            seats.append(Seat(load, arrive, acts[tab], visits(seed, name), rng))
    elapsed = _drive(seats, [(load, server) for load, server, _ in loads], 60 * minutes)
    for (load, server, _), arrive in zip(loads, arrivals, strict=True):
        if not load.findings:
            _ask_anew(load, arrive)
        own, foreign = server.errors()
        blocked = bool(load.findings)
        load.findings += own
        load.foreign_errors = dict(Counter(foreign))
        if blocked:
            load.findings.append(server.stacks())
        else:
            load.stop = server.stop()
    return [load.row(elapsed / 60) for load, _, _ in loads]


def goals(row: dict[str, Any]) -> list[Goal]:
    """The goals of a server, beside that of its memory."""
    name = row["part"]
    return [
        Goal(f"{name}: longest wait of a client in s", row["longest_s"], "<=", DEADLOCK),
        Goal(f"{name}: answers a new client afterwards", row["answers_after"], ">=", 1),
        Goal(f"{name}: from Ctrl-C to its end in s", row["stop_s"], "<=", STOPPED),
        Goal(f"{name}: findings", len(row["findings"]), "<=", 0),
    ]


def _drive(seats: list[Seat], watched: list[tuple[ServerLoad, RunServer]], seconds: float) -> float:
    """Lets all seats act in turn until the time is over or a server is blocked; returns the seconds."""
    start = time.monotonic()
    samples = 0
    while (elapsed := time.monotonic() - start) < seconds and not any(load.findings for load, _ in watched):
        for seat in seats:
            seat.step()
            if time.monotonic() - start >= SAMPLED * samples:
                samples += 1
                for load, server in watched:
                    _sample(load, server)
        time.sleep(max(0.0, start + elapsed + LOOKED - time.monotonic()))
    for seat in seats:
        seat.leave()
    return elapsed


def _sample(load: ServerLoad, server: RunServer) -> None:
    """Notes the memory of a server, or that it has ended."""
    try:
        load.memory.append(server.memory_kb())
    except GenLangSplatError as error:
        load.findings.append(str(error))


def _ask_anew(load: ServerLoad, arrive: Callable[[], Tab]) -> None:
    """Lets one more client come and ask."""
    end = time.monotonic() + DEADLOCK
    try:
        tab = arrive()
        while not tab.is_ready() and time.monotonic() < end:
            time.sleep(0.05)
        tab.ask()
        while tab.answered() is None and time.monotonic() < end:
            time.sleep(0.05)
        load.answers_after = tab.answered() is not None
        if not load.answers_after:
            load.findings.append(f"a new client is not answered within {DEADLOCK:.0f} s")
        tab.vanish()
    except Error as error:
        load.findings.append(f"a new client failed: {str(error).splitlines()[0]}")


def train_small_run(folder: Path) -> dict[str, Any]:
    """Trains the lite method on a small gallery; returns the path of its `config`."""
    from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery
    from genlangsplat_ns.demo.training import train_gallery

    build_gallery(folder / "scene", GallerySettings(num_views=10, width=160, height=120, num_points=4000))
    return {"config": str(train_gallery(folder / "scene", folder / "runs", rgb_steps=300))}
