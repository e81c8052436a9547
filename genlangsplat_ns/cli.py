"""The command line `gen-langsplat` for scenes and trained runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genlangsplat_ns.commands.compress import Compress
from genlangsplat_ns.commands.convert import Convert
from genlangsplat_ns.commands.costs import Costs
from genlangsplat_ns.commands.demo import Demo
from genlangsplat_ns.commands.describe import Describe
from genlangsplat_ns.commands.doctor import Doctor
from genlangsplat_ns.commands.evaluate import Evaluate
from genlangsplat_ns.commands.export import Export
from genlangsplat_ns.commands.extract import Extract
from genlangsplat_ns.commands.fetch_weights import FetchWeights
from genlangsplat_ns.commands.from_photos import FromPhotos
from genlangsplat_ns.commands.label import Label
from genlangsplat_ns.commands.lift import Lift
from genlangsplat_ns.commands.query import Query
from genlangsplat_ns.commands.remove import Remove
from genlangsplat_ns.commands.share import Share
from genlangsplat_ns.commands.view import View
from genlangsplat_ns.utils.command_line import run_commands

COMMANDS: dict[str, Callable[..., Any]] = {
    "from-photos": FromPhotos,
    "view": View,
    "share": Share,
    "query": Query,
    "export": Export,
    "remove": Remove,
    "describe": Describe,
    "label": Label,
    "evaluate": Evaluate,
    "extract": Extract,
    "convert": Convert,
    "lift": Lift,
    "compress": Compress,
    "costs": Costs,
    "fetch-weights": FetchWeights,
    "demo": Demo,
    "doctor": Doctor,
}


def main() -> None:
    """Runs the console script."""
    run_commands(lambda: COMMANDS, "3D Gaussian scenes that can be queried with text.")
