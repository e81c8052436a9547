"""Queries composed scenes with real CLIP words, for latents of several widths and both decoders.

    python benchmarks/composed.py --data DATA --run FOX_RUN/config.yml --json benchmarks/results/composed.json

DATA is the folder with `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Each scene has eight
objects with exact labels, and regions with the errors of a mask model. The autoencoders are not trained on any word or
object of the scenes. Words are queried in held-out views by LangSplat's rules, with the filters scaled to the small
images, and with one negative at LERF's temperature. The baseline lifts the uncompressed embeddings themselves, also
with robust rounds.

The run of the fox scene is lifted again with each width. The whole benchmark takes a while; its parts can be measured
separately with --seeds, and shown together with --with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from genlangsplat_ns.language.projection import projection_autoencoder
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.utils.console import CONSOLE
from support.benchmark import Benchmark, Results, Row
from support.composed_autoencoders import DOMAINS, train_on
from support.composed_fidelity import domain_fidelity, noise_row, scene_fidelity
from support.composed_lift import DIRTY, Code, LiftedScene, NoCode, SceneSetup
from support.composed_report import goals_of, show_all
from support.composed_run import ENCODER

WIDTHS = (8, 12, 16, 24, 32)
USUAL = 16
MISLABELED = replace(DIRTY, mislabeled=0.3)
SCENES, MISLABELED_SCENES = 6, 3
SHARP = 50.0
"""A temperature that favors methods with much noise."""

BASELINES = (
    ("robust", None, False),
    ("plain mean", LiftSettings(robust_rounds=0), False),
    ("always judged", None, True),
)
"""Ways to lift the embeddings: as in the package, which tests if reweighting regions helps, or without the test."""


@dataclass(frozen=True)
class Plan:
    """The measurements to make."""

    seeds: tuple[int, ...]
    mislabeled: tuple[int, ...]
    widths: tuple[int, ...]
    domains: tuple[str, ...]
    """Recipes other than `images`, with the usual width."""

    @classmethod
    def of(cls, quick: bool) -> Plan:
        """Everything, or a selection that takes a few minutes."""
        if quick:
            return cls((0,), (0,), (8, USUAL), ("watches",))
        return cls(tuple(range(SCENES)), tuple(range(MISLABELED_SCENES)), WIDTHS, (*DOMAINS, "words"))


def codes_of(plan: Plan, setup: SceneSetup) -> dict[tuple[str, int], Code]:
    """All autoencoders by recipe and width."""
    codes: dict[tuple[str, int], Code] = {}
    for width in plan.widths:
        codes["projection", width] = projection_autoencoder(ENCODER, 512, width)
        codes["images", width] = train_on(setup.foreign, "images", width)
    for recipe in plan.domains:
        codes[recipe, USUAL] = train_on(setup.foreign, recipe, USUAL)
    return codes


@torch.no_grad()
def measure_scene(setup: SceneSetup, codes: dict[tuple[str, int], Code], mislabeled: bool) -> Iterable[Row]:
    """All rows of one scene."""
    seed = setup.scene.seed
    for name, run in setup.upper_bounds().items():
        yield {"part": "bounds", "seed": seed, "code": name, "latent_dim": 512, **setup.ask(run, shuffled=True)}
    yield noise_row(setup)
    raw = setup.lift(NoCode())
    yield from _answers(raw, "none")
    yield from scene_fidelity(raw, "none")
    about = {"part": "rival", "seed": seed}
    yield {**about, "code": f"temperature {SHARP:g}", **setup.ask(raw.run("autoencoder"), temperature=SHARP)}
    del raw
    for name, settings, full_strength in BASELINES[1:]:
        other = setup.lift(NoCode(), lift=settings, remember=False, full_strength=full_strength)
        yield {**about, "code": name, **setup.ask(other.run("autoencoder"))}
        del other
    for (recipe, width), code in codes.items():
        scene = setup.lift(code)
        yield from _answers(scene, recipe)
        if width == USUAL:
            yield from scene_fidelity(scene, recipe)
            answer = setup.ask(scene.run("memory"), mode="gaussian")
            yield {"part": "gaussian", "seed": seed, "code": recipe, "latent_dim": width, **answer}
    if mislabeled:
        about = {"part": "mislabeled", "seed": seed}
        for recipe in ("images", "projection"):
            scene = setup.lift(codes[recipe, USUAL], MISLABELED)
            yield {**about, "code": recipe, "latent_dim": USUAL, **setup.ask(scene.run("memory"))}
        for name, settings, full_strength in BASELINES:
            scene = setup.lift(NoCode(), MISLABELED, settings, remember=False, full_strength=full_strength)
            yield {**about, "code": f"none, {name}", "latent_dim": 512, **setup.ask(scene.run("autoencoder"))}


def _answers(scene: LiftedScene, recipe: str) -> Iterable[Row]:
    """Scores of a lifted scene with each decoder."""
    for decoder in scene.decoders:
        about = {"part": "scene", "seed": scene.setup.scene.seed, "code": recipe, "decoder": decoder}
        yield {
            **about,
            "latent_dim": scene.code.identity.latent_dim,
            **scene.setup.ask(scene.run(decoder), shuffled=True),
            **scene.costs,
        }


def measure_scenes(data: Path, plan: Plan) -> list[Row]:
    """All rows of the composed scenes and of the domains."""
    first = SceneSetup(data, plan.seeds[0])
    codes = codes_of(plan, first)
    domains = {recipe: code for (recipe, width), code in codes.items() if width == USUAL and recipe != "images"}
    rows = domain_fidelity(first.foreign, domains)
    for seed in plan.seeds:
        setup = first if seed == plan.seeds[0] else SceneSetup(data, seed, first.foreign)
        for row in measure_scene(setup, codes, seed in plan.mislabeled):
            rows.append(row)
            if "miou" in row:
                words = (str(row[key]) for key in ("part", "code", "latent_dim", "decoder") if key in row)
                CONSOLE.print(f"Scene {seed}, {' '.join(words)}: {row['miou']:.3f} ({row['localization']:.2f})")
    return rows


@dataclass(frozen=True, kw_only=True)
class ComposedBenchmark(Benchmark):
    """Words queried in scenes with exact labels."""

    data: Path
    """Folder of all data sets."""
    run: Path | None = None
    """config.yml of a finished run of the fox scene with the embedded encoder, to measure as well."""
    seeds: tuple[int, ...] | None = None
    """Indices of the composed scenes, all by default; without a number, composed scenes are skipped."""
    earlier: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = ()
    """JSON files of earlier runs, whose rows are shown too."""
    quick: bool = False
    """Measure one scene, two widths and one other domain."""

    def measure(self) -> Results:
        """Measures the composed scenes and the fox scene."""
        start, plan = time.perf_counter(), Plan.of(self.quick)
        plan = plan if self.seeds is None else replace(plan, seeds=self.seeds)
        rows: list[Row] = [row for path in self.earlier for row in json.loads(path.read_text())["rows"]]
        rows += measure_scenes(self.data, plan) if plan.seeds else []
        if self.run is not None:
            # Importing nerfstudio takes a while, and only the fox scene needs it.
            from support.composed_fox import measure_fox

            rows += measure_fox(self.run, (USUAL,) if self.quick else plan.widths)
        show_all(rows)
        CONSOLE.print(f"{time.perf_counter() - start:.0f} s in all.")
        return rows, goals_of(rows, USUAL)


if __name__ == "__main__":
    ComposedBenchmark.main()
