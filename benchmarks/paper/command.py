"""Runs a program as `python -m paper.command PROGRAM ARGUMENTS`: ns-train, or gen-langsplat.

Only in a rehearsal, random weights of small networks take the place of the published ones.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

STAND_IN = "PAPER_CHECK_WEIGHTS"
"""Environment variable with the folder of the random weights."""


def main() -> None:
    """Runs the program that the command names."""
    program, *words = sys.argv[1:]
    if os.environ.get(STAND_IN):
        from paper.tiny_models import install_models

        install_models(Path(os.environ[STAND_IN]))
    sys.argv = [program, *words]
    if program == "ns-train":
        runpy.run_module("nerfstudio.scripts.train", run_name="__main__", alter_sys=True)
    else:
        from genlangsplat_ns.cli import main as run

        run()


if __name__ == "__main__":
    main()
