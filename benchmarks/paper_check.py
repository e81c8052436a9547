"""The scenes of the paper from data to a table beside published scores: `make paper-check DATA=LERF_OVS`.

Fetches the weights of SAM ViT-H and CLIP ViT-B-16 by their hashes, trains the four scenes of LERF-OVS and the five of
3D-OVS, and evaluates each with both decoders by every protocol. Needs a network, a card and the data. Before it starts,
it names what is missing, and estimates hours and gigabytes. What is finished is not repeated by the same command.

    python benchmarks/paper_check.py --data lerf_ovs 3d-ovs
    python benchmarks/paper_check.py --rehearse --yes --output-dir rehearsal
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene.cost_table import duration
from genlangsplat_ns.utils.command_line import report_errors_plainly
from genlangsplat_ns.utils.console import CONSOLE, show
from genlangsplat_ns.utils.files import atomic_path
from paper.command import STAND_IN
from paper.estimate import CARD, CPU, Estimate, describe_estimates, estimate_scene, remaining_hours
from paper.scenes import SCENES, Scene, find_scenes
from paper.state import CheckState, only_one
from paper.table import cost_row, costs_table, score_rows, scores_table
from paper.work import Work

ROOT = Path(__file__).parents[1]

STEPS, REHEARSED_STEPS = 30_000, 120
"""Steps of the RGB phase: the paper's, and those of a rehearsal."""

REHEARSED = ("ramen", "waldo_kitchen", "bed")

REHEARSAL = (
    "This is a rehearsal with synthetic scenes and random weights: the figures mean nothing, and the estimate is for "
    "the real networks."
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the check; returns 1 if a scene is missing or failed."""
    report_errors_plainly()
    show()
    options = read_options(arguments)
    # A program that is told to end stops its own programs first, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with only_one(options.output_dir):
            if options.rehearse:
                rehearse(options)
            return check_scenes(options)
    except KeyboardInterrupt:
        say("Stopped. What is done is kept: the same command continues.")
        return 130


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(prog="paper_check.py", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of LERF-OVS and 3D-OVS")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "build" / "paper-check", help="folder of all results")
    parser.add_argument("--only", nargs="*", choices=list(SCENES), help="scenes to run")
    parser.add_argument("--autoencoder", type=Path, help="a pre-trained autoencoder for ViT-B-16")
    parser.add_argument("--weights-mirror", type=Path, help="folder of the weights instead of the network")
    parser.add_argument("--dry-run", action="store_true", help="end after the estimate")
    parser.add_argument("--yes", action="store_true", help="start without asking")
    parser.add_argument("--json", type=Path, help="file of the figures; paper-check.json in the output by default")
    parser.add_argument("--rehearse", action="store_true", help="synthetic scenes, random weights and few steps")
    options = parser.parse_args(arguments)
    options.output_dir = options.output_dir.resolve()
    if options.autoencoder is not None and not options.autoencoder.is_file():
        raise GenLangSplatError(f"The autoencoder {options.autoencoder} does not exist. Give an existing file.")
    if not (options.rehearse or options.data):
        raise GenLangSplatError("No data are given. Give the folders of LERF-OVS and 3D-OVS: make paper-check DATA=...")
    return options


def rehearse(options: argparse.Namespace) -> None:
    """Makes stand-ins for scenes and weights, and keeps caches of this machine out of it."""
    folder = options.output_dir / "stand-in"
    # Before the libraries of the weights are imported, which read these variables then.
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    os.environ["HF_HOME"] = str(folder / "cache" / "huggingface")
    os.environ["TORCH_HOME"] = str(folder / "cache" / "torch")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        os.environ.pop(name, None)
    os.environ[STAND_IN] = str(folder / "weights")
    from paper.stand_in import write_stand_in
    from paper.tiny_models import install_models, write_weights

    options.only = options.only or list(REHEARSED)
    options.data = write_stand_in(folder, options.only)
    options.weights_mirror = folder / "weights"
    write_weights(options.weights_mirror)
    install_models(options.weights_mirror)


def check_scenes(options: argparse.Namespace) -> int:
    """Names what is missing, estimates, asks, and runs all scenes; returns 1 if a scene is missing or failed."""
    from paper.weights import needed_weights

    if options.rehearse:
        say(REHEARSAL)
    steps = REHEARSED_STEPS if options.rehearse else STEPS
    work = Work(options.output_dir, steps, options.autoencoder, options.rehearse)
    scenes, problems = find_scenes(options.data, options.only or SCENES)
    state = CheckState.read(options.output_dir)
    state.check_no_process()
    for scene in scenes:
        state.scene(scene.name, work.training_words(scene))
    weights = needed_weights(options.weights_mirror)
    for name, problem in problems.items():
        say(f"{name} will be left out. {problem}")
    say(weights.describe())
    if not scenes:
        raise GenLangSplatError("No scene is usable. See above what each of them needs.")
    estimates = estimate(scenes, steps)
    done = {name: item.hours for name, item in state.scenes.items() if item.progress == "done"}
    left = [scene.name for scene in scenes if scene.name not in done]
    say(describe_estimates(scenes, estimates, weights.gigabytes, _rates()))
    free = shutil.disk_usage(options.output_dir).free / 1e9
    say(f"{free:.0f} GB are free at {options.output_dir}; features are written beside the data.")
    if done and left:
        say(f"Finished before: {', '.join(done)}. About {duration(3600 * remaining_hours(estimates, done))} are left.")
    if options.autoencoder is None:
        say("Without --autoencoder, a fixed projection stands in for the pre-trained autoencoder of the paper.")
    if options.dry_run or not (options.yes or not left or confirmed()):
        say("Nothing was started.")
        return 0
    weights.fetch()
    for scene in scenes:
        run_scene(scene, work, state, estimates)
        write_results(options, scenes, problems, work, state)
    if not any(state.scenes[scene.name].progress == "done" for scene in scenes):
        say("No scene was finished.")
    else:
        say((options.output_dir / "paper-check.md").read_text(encoding="utf-8"))
    failures = {scene.name: state.scenes[scene.name].problem for scene in scenes if state.scenes[scene.name].problem}
    for name, problem in (problems | failures).items():
        say(f"{name}: {'left out' if name in problems else 'failed'}. {problem}")
    return int(bool(problems or failures))


def _rates() -> Any:
    import torch

    return CARD if torch.cuda.is_available() else CPU


def estimate(scenes: list[Scene], steps: int) -> list[Estimate]:
    """Estimates each scene on this machine."""
    rates = _rates()
    return [estimate_scene(scene, steps, rates) for scene in scenes]


def confirmed() -> bool:
    """Asks whether to start.

    Raises:
        GenLangSplatError: Nobody can answer, because the input is no terminal.
    """
    if not sys.stdin.isatty():
        raise GenLangSplatError("Nobody can be asked whether to start. Add --yes, or --dry-run for the estimate alone.")
    return CONSOLE.input("Start? (y/N) ").strip().lower() in ("y", "yes")


def run_scene(scene: Scene, work: Work, state: CheckState, estimates: list[Estimate]) -> None:
    """Finishes a scene; an error is stored and said, and the others still run."""
    if state.scenes[scene.name].progress == "waiting":
        say(f"{scene.name}: training; log: {work.output / 'logs' / scene.name}-training.log")
    try:
        work.finish(scene, state)
    except GenLangSplatError as error:
        state.scenes[scene.name].problem = str(error)
        state.save()
        say(f"{scene.name}: failed. {error}")
        return
    measured = {name: item.hours for name, item in state.scenes.items() if item.progress == "done"}
    taken, left = (3600 * hours for hours in (measured[scene.name], remaining_hours(estimates, measured)))
    rest = f" About {duration(left)} are left." if left else ""
    say(f"{scene.name}: finished in {duration(taken)}.{rest}")


def write_results(
    options: argparse.Namespace, scenes: list[Scene], problems: dict[str, str], work: Work, state: CheckState
) -> None:
    """Writes the figures of all finished scenes as JSON and as a Markdown page."""
    finished = [scene for scene in scenes if state.scenes[scene.name].progress == "done"]
    results = [(scene, *work.results(scene)) for scene in finished]
    scores = score_rows({scene.name: evaluation for scene, evaluation, _ in results})
    costs = [
        cost_row(scene.name, scene.photographs, report, evaluation)
        for scene, evaluation, report in results
        if report is not None
    ]
    document = {
        "machine": costs[0]["machine"] if costs else None,
        "rehearsal": options.rehearse,
        "rows": [asdict(row) for row in scores],
        "costs": costs,
        "scenes": {name: asdict(item) for name, item in state.scenes.items()},
        "left_out": problems,
        "bars": [],
    }
    with atomic_path(options.json or options.output_dir / "paper-check.json") as path:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    parts = [REHEARSAL] if options.rehearse else []
    parts += [scores_table(scores), costs_table(costs)]
    with atomic_path(options.output_dir / "paper-check.md") as path:
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Prints a text as it is, and at once."""
    CONSOLE.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
