"""Reports lifting compared with Adam: time to equal quality as tables and goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from support.benchmark import Goal, Row
from support.language_race import ADAM, TUNED_ADAM, variant_of
from support.tables import print_table, with_range

QUALITIES = {"cosine": "cosine of latents", "lang_cosine": "cosine of latents", "miou": "mIoU"}
"""Figures for the comparison, and their titles."""
NEAR = 0.005
"""A difference in quality that counts as equal."""
DEFAULT = "robust (default)"


@dataclass(frozen=True)
class Stop:
    """One stop of a run of Adam."""

    name: str
    step: int
    seconds: float
    value: float


def stops_of(curves: Sequence[Row], key: str) -> list[Stop]:
    """All stops of several runs at which a figure was measured."""
    return [
        Stop(f"{curve['solver']}, {curve['name']}", stop["step"], stop["seconds"], stop[key])
        for curve in curves
        for stop in curve["stops"]
    ]


def best_of(curves: Sequence[Row], key: str) -> Stop:
    """The stop with the best value."""
    return max(stops_of(curves, key), key=lambda stop: stop.value)


def first_to(curves: Sequence[Row], key: str, value: float) -> Stop | None:
    """The first stop in processor time that reaches a value; None if there is none."""
    there = [stop for stop in stops_of(curves, key) if stop.value >= value]
    return min(there, key=lambda stop: stop.seconds, default=None)


def variants_of(scene: Row) -> dict[str, list[Row]]:
    """The runs that belong to each variant; the tuned one includes LangSplat's epsilon."""
    return {ADAM: [curve for curve in scene["curves"] if variant_of(curve) == ADAM], TUNED_ADAM: scene["curves"]}


def qualities_of(scene: Row) -> list[str]:
    """The figures of a scene."""
    return [key for key in QUALITIES if key in scene["lifts"][0]]


def title_of(scene: Row) -> str:
    """The title of a scene."""
    return f"{scene['scene']}, {scene['gaussians']:,} Gaussians, {scene['views']} views"


def show_race(found: Sequence[Row]) -> list[Goal]:
    """Prints each scene and returns the goals of lifting relative to the best of Adam."""
    goals = []
    for scene in found:
        _show_runs(scene)
        _show_equal_quality(scene)
        lifted = next(lift for lift in scene["lifts"] if lift["solver"] == DEFAULT)
        for variant, curves in variants_of(scene).items():
            for key in qualities_of(scene):
                best = best_of(curves, key)
                near = first_to(curves, key, best.value - NEAR)
                name = f"{scene['scene']}: {key} of lifting minus the best of {variant}"
                goals.append(Goal(name, lifted[key] - best.value, ">=", -NEAR))
                name = f"{scene['scene']}: time of lifting relative to that of {variant} to {key} near its best"
                goals.append(Goal(name, lifted["seconds"] / near.seconds, "<=", 0.1))
    return goals


def _show_runs(scene: Row) -> None:
    """The quality of every run at its best stop."""
    keys = qualities_of(scene)
    heads = (f"{key} (best stop, seconds there)" for key in keys)
    lines = []
    for lift in scene["lifts"]:
        median = lift["seconds"]
        seconds = with_range(median, lift.get("least", median), lift.get("most", median), ".3g")
        lines.append((f"lifting, {lift['solver']}", "", seconds, *(f"{lift[key]:.4f}" for key in keys)))
    for curve in scene["curves"]:
        last = curve["stops"][-1]
        bests = (best_of([curve], key) for key in keys)
        cells = (f"{best.value:.4f} ({best.step}, {best.seconds:.3g})" for best in bests)
        lines.append((f"{curve['solver']}, {curve['name']}", str(last["step"]), f"{last['seconds']:.4g}", *cells))
    print_table(("solver", "steps", "seconds", *heads), lines, title_of(scene))


def _show_equal_quality(scene: Row) -> None:
    """The time of Adam to come near its own best, and near the result of lifting."""
    lifts = {lift["solver"]: lift for lift in scene["lifts"]}
    heads = ("its best", f"within {NEAR:g} of that", *(f"within {NEAR:g} of {name} lifting" for name in lifts))
    lines = []
    for key in qualities_of(scene):
        for variant, curves in variants_of(scene).items():
            best = best_of(curves, key)
            marks = [best.value - NEAR, *(lift[key] - NEAR for lift in lifts.values())]
            firsts = (first_to(curves, key, mark) for mark in marks)
            cells = (f"{stop.seconds:.3g}" if stop else "never" for stop in firsts)
            lines.append((key, variant, f"{best.value:.4f}", *cells))
    print_table(("figure", "variant", *heads), lines, title="seconds to equal quality")
