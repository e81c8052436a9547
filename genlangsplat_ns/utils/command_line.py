"""The edge of the command-line programs: what is parsed, and how what goes wrong is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE, show


def run_commands(load_commands: Callable[[], Mapping[str, Callable[..., Any]]], description: str) -> None:
    """Parses the arguments into one of the commands and calls it; a user's mistake is told in one message.

    Args:
        load_commands: Gives dataclasses by the name of their subcommand; an instance is called without arguments. What
            imports torch is imported in there.
        description: What the program is, for `--help`.
    """
    import tyro

    # Threads of torch that spin while they wait slow each other down five times beside one other busy program. The
    # runtime reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    show()
    command = tyro.extras.subcommand_cli_from_dict(dict(load_commands()), description=description)
    try:
        command()
    except GenLangSplatError as error:
        _fail(str(error))
    except OSError as error:
        # What the machine refuses (a full disk, no permission) is told by its own words and the file's name.
        _fail((f"{error.filename}: " if error.filename else "") + (error.strerror or str(error)))
    except KeyboardInterrupt:
        CONSOLE.print("Stopped. What is stored stays; the same command goes on from there.")
        sys.exit(130)


def _fail(message: str) -> None:
    CONSOLE.print(f"[bold red]Error:[/bold red] {escape(message)}")
    sys.exit(1)
