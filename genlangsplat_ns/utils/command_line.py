"""Runs the commands of a program: parses arguments and reports errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE, show


def run_commands(load_commands: Callable[[], Mapping[str, Callable[..., Any]]], description: str) -> None:
    """Parses the arguments, runs the command, and reports expected errors without a traceback.

    Args:
        load_commands: Returns the command dataclasses by name, whose instances are called without arguments. Imports
            of torch belong into this function.
        description: Description of the program for `--help`.
    """
    import tyro

    # Spinning OpenMP threads make torch five times slower if one other program is busy. The runtime reads this variable
    # when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    show()
    try:
        # Settings are checked while the command is built.
        tyro.extras.subcommand_cli_from_dict(dict(load_commands()), description=description)()
    except GenLangSplatError as error:
        _fail(str(error))
    except OSError as error:
        # For example a full disk or a missing permission.
        _fail((f"{error.filename}: " if error.filename else "") + (error.strerror or str(error)))
    except KeyboardInterrupt:
        CONSOLE.print("Stopped. Stored results are kept. Run the same command again to continue.")
        sys.exit(130)


def _fail(message: str) -> None:
    CONSOLE.print(f"[bold red]Error:[/bold red] {escape(message)}")
    sys.exit(1)
