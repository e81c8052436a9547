"""`python -m pretrain`: extracts embeddings, and trains and evaluates autoencoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genlangsplat_ns.utils.command_line import run_commands


def load_commands() -> dict[str, Callable[..., Any]]:
    """Imports the commands, which import torch."""
    from pretrain.artifact_commands import Evaluate, Export, Inspect
    from pretrain.conse_commands import EmbedClasses, EvaluateConse, TrainConse
    from pretrain.embedding_commands import Check, Cross, Extract, Sweep, Train

    return {
        "extract": Extract,
        "check": Check,
        "train": Train,
        "evaluate": Evaluate,
        "sweep": Sweep,
        "cross": Cross,
        "inspect": Inspect,
        "export": Export,
        "embed-classes": EmbedClasses,
        "train-conse": TrainConse,
        "evaluate-conse": EvaluateConse,
    }


def main() -> None:
    """Runs the command in the arguments."""
    run_commands(load_commands, "Extracts embeddings, and trains and evaluates autoencoders.")


if __name__ == "__main__":
    main()
