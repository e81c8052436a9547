"""Lifting compared with Adam over time: both solvers on one scene, scored at several stops."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path, safe_name
from support.benchmark import Row
from support.language_adam import LANGSPLAT_EPSILON, PAPER_STEPS, AdamSettings, Render, anew, kept, optimize
from support.language_scene import LatentScene, latent_scene, score

Figures = dict[str, float]

SMALL = {"num_objects": 6, "num_views": 16, "width": 162, "height": 108, "max_gaussians": 1500}
"""The scene on which Adam runs for the full number of steps."""

SCENES: dict[str, tuple[dict[str, int], float]] = {
    "small": (SMALL, 0.0),
    "small, 30 % mislabeled": (SMALL, 0.3),
    "large": ({}, 0.0),
}
"""Size of each composed scene, and the share of its regions that is mislabeled."""

LIFTS = {"plain": LiftSettings(robust_rounds=0), "robust (default)": LiftSettings()}
KEPT, ANEW = "Adam", "Adam, rendered anew"

RATES = (0.001, 0.0025, 0.01, 0.03)
BEST_RATES = (0.0025, 0.01)
"""The two best of the four, the best first."""
TUNED = (AdamSettings(0.3, epsilon=0.01), AdamSettings(0.1, epsilon=0.001))
"""The best of a dozen pairs of rate and epsilon on the small scene, and the best of those with a smaller epsilon."""

CURVE_STEPS, RUN_STEPS, TUNED_STEPS, CLOCK_STEPS, QUICK_STEPS = 1000, 600, 400, 100, 100
STOPS = (5, 10, 15, 20, 25, 35, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1000, 1600, 3000, 6000, 12_000, 20_000)
"""Numbers of steps after which Adam is scored, in addition to the last."""


ADAM, TUNED_ADAM = "Adam", "Adam with tuned epsilon"
"""The variants of Adam: LangSplat's settings except for the rate, and any settings."""


def variant_of(curve: Row) -> str:
    """The variant of a run of Adam."""
    return ADAM if curve["settings"]["epsilon"] == LANGSPLAT_EPSILON else TUNED_ADAM


@dataclass(frozen=True)
class Curve:
    """One run of Adam."""

    settings: AdamSettings
    steps: int
    way: str = KEPT


def curves_of(name: str, steps: int, quick: bool) -> list[Curve]:
    """The runs of Adam on a scene.

    Args:
        name: One of `SCENES`, or another scene.
        steps: Number of steps of the best rate on the small scene.
        quick: Whether to try only the two best rates and one epsilon, with few steps.
    """
    if quick:
        return [Curve(AdamSettings(rate), QUICK_STEPS) for rate in BEST_RATES] + [Curve(TUNED[0], QUICK_STEPS // 2)]
    rates = RATES if name == "small" else BEST_RATES
    curves = [Curve(AdamSettings(rate), CURVE_STEPS if name in SCENES else RUN_STEPS) for rate in rates]
    curves += [Curve(settings, TUNED_STEPS) for settings in TUNED]
    if name == "small":
        best = AdamSettings(BEST_RATES[0])
        curves = [replace(curve, steps=steps) if curve.settings == best else curve for curve in curves]
        curves.append(Curve(AdamSettings(BEST_RATES[1], start=0.01), TUNED_STEPS))
        curves.append(Curve(AdamSettings(BEST_RATES[1], views_a_step=4), TUNED_STEPS))
    return [*curves, Curve(AdamSettings(BEST_RATES[0]), CLOCK_STEPS, ANEW)]


@dataclass(frozen=True)
class Course:
    """The input of both solvers.

    Attributes:
        views: The labeled views, with their weights.
        renders: The render functions of Adam, by name.
        shape: Number of Gaussians, levels, and latent dimensions.
        setup_seconds: Processor time before the first step: weights, and latents of regions.
        score: Returns figures of latents; higher is better for all.
    """

    views: Sequence[RegionView]
    renders: dict[str, Render]
    shape: tuple[int, int, int]
    setup_seconds: float
    score: Callable[[Tensor], Figures]


def run_curves(course: Course, curves: Sequence[Curve]) -> tuple[list[Row], dict[str, Row]]:
    """Runs all given variants of Adam.

    Returns:
        One row per curve with the figures at its stops, and the best stop of each variant with its latents.
    """
    # The first steps of a process are slow, and must not count for Adam.
    list(optimize(course.views, course.renders[KEPT], course.shape, [3], AdamSettings()))
    rows: list[Row] = []
    best: dict[str, Row] = {}
    for curve in curves:
        stops = [*(stop for stop in STOPS if stop < curve.steps), curve.steps]
        row: Row = {"solver": curve.way, "settings": asdict(curve.settings), "name": str(curve.settings), "stops": []}
        variant = variant_of(row)
        # Rendering at every step needs no weights.
        setup = course.setup_seconds if curve.way == KEPT else 0.0
        for progress in optimize(course.views, course.renders[curve.way], course.shape, stops, curve.settings):
            figures = course.score(progress.latents)
            row["stops"].append({"step": progress.step, "seconds": setup + progress.seconds, **figures})
            quality = statistics.mean(figures.values())
            if variant not in best or quality > best[variant]["quality"]:
                moment = {"quality": quality, "name": row["name"], "latents": progress.latents.clone()}
                best[variant] = moment | row["stops"][-1]
        CONSOLE.print(row["solver"], row["name"], row["stops"][-1])
        rows.append(row)
    return rows, best


def latent_figures(scene: LatentScene, latents: Tensor) -> Figures:
    """Cosine and mIoU of the latents themselves."""
    return vars(score(scene, latents))


def scene_named(data: Path, name: str) -> LatentScene:
    """Composes one of `SCENES`; `data` is the folder of all data sets."""
    size, share = SCENES[name]
    scene = latent_scene(data, 0, **size)
    return scene.mislabeled(share) if share else scene


def write_latents(path: Path, scene: str, lifted: dict[str, Tensor], best: dict[str, Row]) -> None:
    """Writes the latents of lifting, and of the best stop of each variant of Adam, by solver."""
    latents = lifted | {variant: stop["latents"] for variant, stop in best.items()}
    with atomic_path(path) as temporary:
        save_file({solver: found.contiguous() for solver, found in latents.items()}, temporary, {"scene": scene})


def measure_adam(
    data: Path,
    name: str,
    steps: int = PAPER_STEPS,
    quick: bool = False,
    latents: Path | None = None,
    figures: Callable[[LatentScene, Tensor], Figures] = latent_figures,
) -> Row:
    """Lifting and Adam on a composed scene.

    Args:
        data: The folder of all data sets.
        name: One of `SCENES`.
        steps: Number of steps of the best rate of Adam on the small scene.
        quick: Fewer and shorter runs of Adam.
        latents: A folder for the latents of lifting and of Adam's best stop.
        figures: Returns figures of latents; higher is better for all.
    """
    scene = scene_named(data, name)
    training = [scene.scene.views[index] for index in scene.scene.split("train")]
    lifts, lifted, setups = [], {}, []
    for solver, settings in LIFTS.items():
        seconds = []
        for _ in range(3):
            start = time.process_time()
            views = scene.with_new_weights().training()
            setups.append((time.process_time() - start) * len(views) / len(scene.scene.views))
            start = time.process_time()
            lifted[solver] = lift_latents(views, *scene.shape, settings).latents
            seconds.append(setups[-1] + time.process_time() - start)
        row = {"solver": solver, "seconds": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}
        lifts.append(row | figures(scene, lifted[solver]))
        CONSOLE.print(lifts[-1])
    views = scene.training()
    renders = {KEPT: kept(views), ANEW: anew(scene.scene.gaussians, training)}
    course = Course(views, renders, scene.shape, statistics.median(setups), lambda found: figures(scene, found))
    curves, best = run_curves(course, curves_of(name, steps, quick))
    if latents is not None:
        write_latents(latents / f"{safe_name(name)}.safetensors", name, lifted, best)
    result = {"part": "adam", "scene": name, "gaussians": scene.num_gaussians, "views": len(views)}
    return result | {"setup_seconds": course.setup_seconds, "lifts": lifts, "curves": curves}


def measure_run(config: Path, quick: bool = False, latents: Path | None = None) -> Row:
    """Lifting and Adam on a trained run.

    Args:
        config: Its `config.yml`.
        quick: Fewer and shorter runs of Adam.
        latents: A folder for the latents of lifting and of Adam's best stop.
    """
    from genlangsplat_ns.run import open_run
    from genlangsplat_ns.scene.lifting import lift_scene, training_views
    from genlangsplat_ns.scene.metrics import language_metrics

    scene = open_run(config)
    model, data = scene.model, scene.datamanager

    def figures(found: Tensor) -> Figures:
        means = language_metrics(scene.with_latents(found)).means
        return {key: means[key] for key in ("lang_cosine", "miou") if key in means}

    lifts, lifted = [], {}
    for solver, settings in LIFTS.items():
        model.config.lifting = settings
        start = time.process_time()
        lifted[solver] = lift_scene(model, data)[0].latents
        lifts.append({"solver": solver, "seconds": time.process_time() - start, **figures(lifted[solver])})
        CONSOLE.print(lifts[-1])
    start = time.process_time()
    posed = training_views(model, data)
    views = list(posed)
    setup_seconds = time.process_time() - start
    renders = {KEPT: kept(views), ANEW: anew(posed.gaussians, [item.view for item in posed.views])}
    course = Course(views, renders, tuple(model.latents.shape), setup_seconds, figures)
    curves, best = run_curves(course, curves_of("run", PAPER_STEPS, quick))
    if latents is not None:
        write_latents(latents / "run.safetensors", "photographs", lifted, best)
    result = {"part": "run", "scene": "photographs", "gaussians": model.num_points, "views": len(views)}
    return result | {"setup_seconds": setup_seconds, "lifts": lifts, "curves": curves}
