"""Requests to the model take turns: one thread computes, in the order of arrival, and outdated requests are dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from genlangsplat_ns.errors import GenLangSplatError

Result = TypeVar("Result")

MAX_WAITING = 64
"""Number of requests that may wait; more are refused."""


class OutdatedError(GenLangSplatError):
    """The same page has asked something newer meanwhile, or it is gone."""


class BusyError(GenLangSplatError):
    """Too many requests are waiting."""


@dataclass(eq=False)
class _Turn:
    owner: Hashable
    number: int
    begins: asyncio.Future[None]

    @property
    def has_begun(self) -> bool:
        return self.begins.done() and not self.begins.cancelled() and self.begins.exception() is None


class Turns:
    """Gives each request its turn at an executor. All methods are called in one event loop.

    Args:
        executor: Does the work, in one thread.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: list[_Turn] = []
        self._busy = False

    async def run(
        self, owner: Hashable, number: int, work: Callable[[], Result], is_gone: Callable[[], Awaitable[bool]]
    ) -> Result:
        """Waits for its turn, runs the work and returns its result.

        Args:
            owner: Of the requests of one owner, only the one with the highest number is worth its work.
            number: The number of this request.
            work: Runs in the executor.
            is_gone: Whether nobody waits for the result any more; it is asked before the work starts.

        Raises:
            OutdatedError: While it waited, its owner has asked something newer, or is gone.
            BusyError: Too many requests are waiting.
        """
        for other in self._waiting:
            if other.owner == owner and other.number < number and not other.begins.done():
                other.begins.set_exception(
                    OutdatedError(
                        f"Found request {other.number}, expected {number}, which is newer. Wait for that one."
                    )
                )
        if len(self._waiting) >= MAX_WAITING:
            raise BusyError(f"Found {MAX_WAITING} waiting requests, expected fewer. Wait, and close other pages.")
        turn = _Turn(owner, number, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._next()
        try:
            await turn.begins
            if await is_gone():
                raise OutdatedError(
                    f"The page of request {number} is gone, so the request is dropped. Open the page again."
                )
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.has_begun:
                self._busy = False
                self._next()

    def _next(self) -> None:
        """Lets the first waiting request begin, if none is at work."""
        while self._waiting and not self._busy:
            turn = self._waiting.pop(0)
            if not turn.begins.done():
                self._busy = True
                turn.begins.set_result(None)
