"""Runs the commands of a program: parses arguments and reports errors."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE, show

TRACEBACK_FLAG = "--traceback"

TRACEBACK_VARIABLE = "GENLANGSPLAT_TRACEBACK"
"""Environment variable; if it is 1, errors have a traceback in every command, nerfstudio's own included."""


def run_commands(load_commands: Callable[[], Mapping[str, Callable[..., Any]]], description: str) -> None:
    """Parses the arguments, runs the command, and reports an error as one sentence without a traceback.

    `--traceback`, before or after the command, shows the traceback instead. `load_commands` returns the command
    dataclasses by name, whose instances are called without arguments; imports of torch belong into this function.
    """
    import tyro

    # Spinning OpenMP threads make torch five times slower if one other program is busy. The runtime reads this variable
    # when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    show()
    _quiet_dependencies()
    words = [word for word in sys.argv[1:] if word != TRACEBACK_FLAG]
    description += f" An error is one sentence; {TRACEBACK_FLAG} anywhere after the program shows its traceback."
    with ExitStack() as stack:
        stack.push(partial(_end_plainly, len(words) < len(sys.argv[1:]) or _traceback_by_default()))
        # Settings are checked while the command is built.
        tyro.extras.subcommand_cli_from_dict(dict(load_commands()), description=description, args=words)()


def _quiet_dependencies() -> None:
    """Hides warnings of dependencies about their own future, of which a user can change nothing.

    Python's option -W and the variable PYTHONWARNINGS take precedence.
    """
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|nerfstudio)\b")


def _end_plainly(traceback: bool, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
    """Ends the process when an error leaves the block; without a traceback, it is reported as one sentence."""
    if isinstance(error, KeyboardInterrupt):
        CONSOLE.print("Stopped. Stored results are kept. Run the same command again to continue.")
        sys.exit(130)
    if isinstance(error, Exception) and not traceback:
        _print(error, f"add {TRACEBACK_FLAG}")
        sys.exit(1)


def report_errors_plainly(traceback: bool = False) -> None:
    """Makes this process print one sentence instead of the traceback of an uncaught error.

    nerfstudio's commands do not catch exceptions, and a traceback would hide the message. With `traceback`, nothing
    changes.
    """
    previous = sys.excepthook
    if not (traceback or _traceback_by_default() or isinstance(previous, _PlainHook)):
        sys.excepthook = _PlainHook(previous)


class _PlainHook:
    """An exception hook that prints errors as one sentence, and hands other exceptions to the hook before it."""

    def __init__(self, previous: Callable[..., Any]) -> None:
        self._previous = previous

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, Exception):
            _print(error, f"set {TRACEBACK_VARIABLE}=1")
        else:
            self._previous(kind, error, trace)


def _traceback_by_default() -> bool:
    return os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")


ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free disk space or name another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Give permission or name another folder"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "Was it removed or renamed? Restore it"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Raise the number of files that may be open (ulimit -n)"),
    errno.EIO: "Check the disk",
}
"""What to do about errors of the system."""


def _system_message(error: OSError) -> str:
    """Says which file had which problem, for example a full disk or a missing permission, and what to do."""
    name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    advice = ADVICE.get(error.errno or 0, "Correct that")
    return f"{name}{(error.strerror or str(error)).removesuffix('.')}. {advice}, then run the same command again."


def _print(error: Exception, advice: str) -> None:
    """Prints an error as one sentence, with advice how to see its traceback if it was not foreseen."""
    if isinstance(error, GenLangSplatError):
        message = str(error)
    elif isinstance(error, OSError):
        message = _system_message(error)
    else:
        found = f"{type(error).__name__}: {error}".strip().removesuffix(".")
        message = f"{found}. To see where this arose, {advice}."
    CONSOLE.print(f"[bold red]Error:[/bold red] {escape(message)}")
