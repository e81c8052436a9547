"""Draws the figures of the documents from the results of the benchmarks, and the pictures from a run of the demo.

    python benchmarks/figures.py
    python benchmarks/figures.py --demo demo-output

The results are the files that the benchmarks write with `--json benchmarks/results/NAME.json`. `--demo` is the folder
that `make demo` writes; without it the pictures stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro
from matplotlib.figure import Figure

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.command_line import report_errors_plainly
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path
from support.benchmark import Row
from support.figures import draw_race, draw_training, draw_widths
from support.pictures import draw_answers, draw_regions, open_demo

ROOT = Path(__file__).resolve().parents[1]

FIGURES: dict[str, tuple[str, Callable[[Sequence[Row]], Figure]]] = {
    "latent-width.png": ("composed.json", draw_widths),
    "lifting-and-adam.png": ("lifting_and_adam.json", draw_race),
    "training.png": ("training.json", draw_training),
}
"""The result file and the function of every figure."""


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a result file.

    Raises:
        GenLangSplatError: There is no such file.
    """
    if not path.is_file():
        raise GenLangSplatError(f"There are no results in {path}; run the benchmark that writes them with --json.")
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def main(
    results: Path = ROOT / "benchmarks" / "results", output_dir: Path = ROOT / "docs", demo: Path | None = None
) -> None:
    """Draws all figures.

    Args:
        results: Folder of the result files of the benchmarks.
        output_dir: Folder of the figures.
        demo: Output folder of the demo, for the pictures of the gallery.
    """
    for name, (source, draw) in FIGURES.items():
        figure = draw(read_rows(results / source))
        with atomic_path(output_dir / name) as temporary:
            # Without the name of the program and its version, the same rows give the same file.
            figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
        CONSOLE.print(f"Wrote {output_dir / name}.")
    if demo is not None:
        scene = open_demo(demo)
        for name, picture in (("gallery.png", draw_answers(scene)), ("features.jpg", draw_regions(scene))):
            with atomic_path(output_dir / name) as temporary:
                picture.save(temporary)
            CONSOLE.print(f"Wrote {output_dir / name}.")


if __name__ == "__main__":
    report_errors_plainly()
    tyro.cli(main, description=__doc__)
