"""Requests take turns: in order, without outdated ones and those of pages that are gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from genlangsplat_ns.web.turns import MAX_WAITING, BusyError, OutdatedError, Turns


async def present() -> bool:
    return False


class Asked:
    """Runs several requests of which the first holds the worker until `release`."""

    def __init__(self) -> None:
        self.turns = Turns(ThreadPoolExecutor(1))
        self.gate = threading.Event()
        self.done: list[Any] = []
        self.tasks: dict[Any, asyncio.Task[Any]] = {}

    def start(self, owner: str, number: int, is_gone: Callable[[], Awaitable[bool]] = present) -> asyncio.Task[Any]:
        """Asks, and returns the task."""
        key = owner, number

        def work() -> Any:
            self.gate.wait(10)
            self.done.append(key)
            return key

        self.tasks[key] = asyncio.create_task(self.turns.run(owner, number, work, is_gone))
        return self.tasks[key]

    async def finish(self) -> dict[Any, Any]:
        """Releases the worker and returns what each request got."""
        await asyncio.sleep(0.02)
        self.gate.set()
        results = await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return dict(zip(self.tasks, results, strict=True))


def test_requests_of_different_pages_are_answered_in_their_order() -> None:
    async def scenario() -> Asked:
        asked = Asked()
        for number, page in enumerate("abcab"):
            asked.start(page, number)
            await asyncio.sleep(0)
        await asked.finish()
        return asked

    asked = asyncio.run(scenario())
    # The first request of "b" waited and is outdated; that of "a" was already at work.
    assert asked.done == [("a", 0), ("c", 2), ("a", 3), ("b", 4)]


def test_a_newer_request_drops_the_waiting_ones_of_its_page_at_once() -> None:
    async def scenario() -> tuple[Asked, bool, dict[Any, Any]]:
        asked = Asked()
        asked.start("other", 1)
        old = asked.start("page", 1)
        await asyncio.sleep(0.01)
        asked.start("page", 2)
        await asyncio.sleep(0.01)
        return asked, old.done(), await asked.finish()

    asked, dropped_at_once, results = asyncio.run(scenario())
    assert dropped_at_once and isinstance(results["page", 1], OutdatedError)
    assert asked.done == [("other", 1), ("page", 2)]


def test_an_older_number_drops_nothing() -> None:
    async def scenario() -> dict[Any, Any]:
        asked = Asked()
        asked.start("other", 1)
        asked.start("page", 5)
        await asyncio.sleep(0.01)
        asked.start("page", 4)
        return await asked.finish()

    results = asyncio.run(scenario())
    assert results["page", 5] == ("page", 5) and results["page", 4] == ("page", 4)


def test_nothing_is_computed_for_a_page_that_is_gone() -> None:
    async def gone() -> bool:
        return True

    async def scenario() -> tuple[Asked, dict[Any, Any]]:
        asked = Asked()
        asked.start("page", 1)
        asked.start("gone", 1, gone)
        asked.start("last", 1)
        return asked, await asked.finish()

    asked, results = asyncio.run(scenario())
    assert isinstance(results["gone", 1], OutdatedError) and asked.done == [("page", 1), ("last", 1)]


def test_a_cancelled_request_lets_the_next_one_begin() -> None:
    async def scenario() -> Asked:
        asked = Asked()
        asked.start("first", 1)
        waiting, begun = asked.start("waiting", 1), asked.tasks["first", 1]
        await asyncio.sleep(0.01)
        waiting.cancel()
        begun.cancel()
        asked.start("last", 1)
        await asked.finish()
        return asked

    assert asyncio.run(scenario()).done[-1] == ("last", 1)


def test_an_error_of_the_work_reaches_its_page_only() -> None:
    async def scenario() -> Any:
        turns = Turns(ThreadPoolExecutor(1))
        failing = turns.run("a", 1, lambda: 1 // 0, present)
        return await asyncio.gather(failing, turns.run("b", 1, lambda: 7, present), return_exceptions=True)

    failed, answered = asyncio.run(scenario())
    assert isinstance(failed, ZeroDivisionError) and answered == 7


def test_too_many_waiting_requests_are_refused() -> None:
    async def scenario() -> dict[Any, Any]:
        asked = Asked()
        for number in range(MAX_WAITING + 2):
            asked.start(f"page {number}", 1)
        return await asked.finish()

    results = list(asyncio.run(scenario()).values())
    assert isinstance(results[-1], BusyError) and results[-2] == (f"page {MAX_WAITING}", 1)


@pytest.mark.parametrize("count", [1, 20])
def test_only_the_last_of_many_quick_requests_is_computed(count: int) -> None:
    async def scenario() -> Asked:
        asked = Asked()
        asked.start("other", 1)
        for number in range(count):
            asked.start("page", number)
            await asyncio.sleep(0)
        await asked.finish()
        return asked

    assert asyncio.run(scenario()).done == [("other", 1), ("page", count - 1)]
