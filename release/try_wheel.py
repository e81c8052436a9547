"""Trains and asks a small scene with the package that is installed, in an empty folder.

`make wheel` runs it with the Python of a new environment, in which only the wheel is installed. The folder of this
file is no package, so nothing is imported from the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from genlangsplat_ns import __file__ as package
from genlangsplat_ns import __version__
from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery

TEXT, CATEGORY = "a cat", "cat"

VIEWS = 20
RGB_STEPS = 600
RUN = "runs/gallery/gen-langsplat-lite/run"


def run(folder: Path, *words: str, lines: int = 0) -> None:
    """Runs a program of this environment, prints its last lines, and ends this one if it fails."""
    begin = time.perf_counter()
    program = Path(sys.executable).with_name(words[0])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([program, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True)
    print(f"$ {' '.join(words)}  ({time.perf_counter() - begin:.0f} s)", flush=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}{words[0]} ended with status {done.returncode}; expected 0.")
    print("".join(done.stdout.splitlines(keepends=True)[-lines:] if lines else ()), end="", flush=True)


def box_of(data: Path, view: str, category: str) -> list[float]:
    """The box of an object in a view, from the labels of the gallery: left, top, right and bottom in pixels."""
    labels = json.loads((data / "labels" / Path(view).with_suffix(".json").name).read_text(encoding="utf-8"))
    (box,) = (item["bbox"] for item in labels["objects"] if item["category"] == category)
    return box


def hits(data: Path, answers: Path) -> list[bool]:
    """For each view with a labeled cat, whether the peak of the answer lies in the box of the cat."""
    found = []
    for answer in json.loads((answers / "query.json").read_text(encoding="utf-8"))["results"]:
        try:
            left, top, right, bottom = box_of(data, answer["view"], CATEGORY)
        except ValueError:
            continue  # The cat is hidden in this view.
        x, y = answer["peak"]
        found.append(left <= x <= right and top <= y <= bottom)
    return found


def main() -> None:
    """Prints what the programs say, and exits with an error if one fails or the answer is wrong."""
    if not Path(package).is_relative_to(sys.prefix):
        sys.exit(f"The package was imported from {package}; expected a folder in {sys.prefix}. Install the wheel.")
    print(f"genlangsplat-ns {__version__} in {Path(package).parent}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "gen-langsplat", "--help")
        run(folder, "python", "-m", "pretrain", "--help")
        run(folder, "ns-train", "gen-langsplat-lite", "--help")
        run(folder, "gen-langsplat", "doctor", lines=60)
        data = build_gallery(folder / "data", GallerySettings(num_views=VIEWS))
        run(
            *(folder, "ns-train", "gen-langsplat-lite", "--data", "data", "--output-dir", "runs"),
            *("--experiment-name", "gallery", "--timestamp", "run", "--vis", "tensorboard"),
            *("--max-num-iterations", str(RGB_STEPS)),
            lines=6,
        )
        run(
            *(folder, "gen-langsplat", "query", "--load-config", f"{RUN}/config.yml", "--text", TEXT),
            *("--output-dir", "answers"),
        )
        found = hits(data, folder / "answers")
    print(f"{TEXT!r}: {sum(found)} of {len(found)} views answered with a pixel of the {CATEGORY}.")
    if 2 * sum(found) <= len(found):
        sys.exit("Expected more than half.")


if __name__ == "__main__":
    main()
