"""Asks composed scenes for real CLIP words, with latents of several widths, decoded in both ways.

    python benchmarks/composed.py --data DATA --run FOX_RUN/config.yml --json composed.json --plot docs/latent-width.png

DATA is the folder that holds `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Each scene has
eight objects with exact labels, and regions as a mask model makes them. The autoencoders never saw a word or a thing of
any scene. Words are asked of held-out views by LangSplat's rules, with the filters scaled to the small pictures,
against one negative at LERF's temperature. The rival carries the uncompressed embeddings themselves, lifted as
robustly.

`--run` names a finished run of the fox scene with the embedded encoder, which is lifted anew with each width. All
takes a while; parts of it can be measured one after the other: `--seeds` without a number leaves the composed scenes
out, and `--with` shows the rows of earlier runs beside the new ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from common import write_results
from composed_autoencoders import DOMAINS, train_on
from composed_fidelity import domain_fidelity, noise_row, scene_fidelity
from composed_lift import DIRTY, Code, LiftedScene, NoCode, Road, Row
from composed_report import bars_of, draw_widths, show_all
from composed_run import ENCODER
from genlangsplat_ns.language.projection import projection_autoencoder
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.utils.console import CONSOLE

WIDTHS = (8, 12, 16, 24, 32)
USUAL = 16
MISLABELED = replace(DIRTY, mislabeled=0.3)
SCENES, MISLABELED_SCENES = 6, 3
SHARP = 50.0
"""A temperature that favors whoever carries much noise."""

RIVALS = (
    ("robust", None, False),
    ("plain mean", LiftSettings(robust_rounds=0), False),
    ("always judged", None, True),
)
"""Ways to lift the embeddings: as the package does, which asks whether judging regions helps; and without asking."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    seeds: tuple[int, ...]
    mislabeled: tuple[int, ...]
    widths: tuple[int, ...]
    domains: tuple[str, ...]
    """Recipes other than `images`, with the usual width."""

    @classmethod
    def of(cls, quick: bool) -> Plan:
        """All, or what takes a few minutes."""
        if quick:
            return cls((0,), (0,), (8, USUAL), ("watches",))
        return cls(tuple(range(SCENES)), tuple(range(MISLABELED_SCENES)), WIDTHS, (*DOMAINS, "words"))


def codes_of(plan: Plan, road: Road) -> dict[tuple[str, int], Code]:
    """Every autoencoder that takes part, by recipe and width."""
    codes: dict[tuple[str, int], Code] = {}
    for width in plan.widths:
        codes["projection", width] = projection_autoencoder(ENCODER, 512, width)
        codes["images", width] = train_on(road.foreign, "images", width)
    for recipe in plan.domains:
        codes[recipe, USUAL] = train_on(road.foreign, recipe, USUAL)
    return codes


@torch.no_grad()
def measure_scene(road: Road, codes: dict[tuple[str, int], Code], mislabeled: bool) -> Iterable[Row]:
    """All rows of one scene."""
    seed = road.scene.seed
    for name, run in road.upper_bounds().items():
        yield {"part": "bounds", "seed": seed, "code": name, "latent_dim": 512, **road.ask(run, shuffled=True)}
    yield noise_row(road)
    raw = road.lift(NoCode())
    yield from _answers(raw, "none")
    yield from scene_fidelity(raw, "none")
    about = {"part": "rival", "seed": seed}
    yield {**about, "code": f"temperature {SHARP:g}", **road.ask(raw.run("autoencoder"), temperature=SHARP)}
    del raw
    for name, settings, firm in RIVALS[1:]:
        other = road.lift(NoCode(), lift=settings, remember=False, firm=firm)
        yield {**about, "code": name, **road.ask(other.run("autoencoder"))}
        del other
    for (recipe, width), code in codes.items():
        scene = road.lift(code)
        yield from _answers(scene, recipe)
        if width == USUAL:
            yield from scene_fidelity(scene, recipe)
            answer = road.ask(scene.run("memory"), mode="gaussian")
            yield {"part": "gaussian", "seed": seed, "code": recipe, "latent_dim": width, **answer}
    if mislabeled:
        about = {"part": "mislabeled", "seed": seed}
        for recipe in ("images", "projection"):
            scene = road.lift(codes[recipe, USUAL], MISLABELED)
            yield {**about, "code": recipe, "latent_dim": USUAL, **road.ask(scene.run("memory"))}
        for name, settings, firm in RIVALS:
            scene = road.lift(NoCode(), MISLABELED, settings, remember=False, firm=firm)
            yield {**about, "code": f"none, {name}", "latent_dim": 512, **road.ask(scene.run("autoencoder"))}


def _answers(scene: LiftedScene, recipe: str) -> Iterable[Row]:
    """Scores of a lifted scene with each decoder."""
    for decoder in scene.decoders:
        about = {"part": "scene", "seed": scene.road.scene.seed, "code": recipe, "decoder": decoder}
        yield {
            **about,
            "latent_dim": scene.code.identity.latent_dim,
            **scene.road.ask(scene.run(decoder), shuffled=True),
            **scene.costs,
        }


def measure_scenes(data: Path, plan: Plan) -> list[Row]:
    """All rows of the composed scenes and of the domains."""
    first = Road(data, plan.seeds[0])
    codes = codes_of(plan, first)
    domains = {recipe: code for (recipe, width), code in codes.items() if width == USUAL and recipe != "images"}
    rows = domain_fidelity(first.foreign, domains)
    for seed in plan.seeds:
        road = first if seed == plan.seeds[0] else Road(data, seed, first.foreign)
        for row in measure_scene(road, codes, seed in plan.mislabeled):
            rows.append(row)
            if "miou" in row:
                words = (str(row[key]) for key in ("part", "code", "latent_dim", "decoder") if key in row)
                CONSOLE.print(f"Scene {seed}, {' '.join(words)}: {row['miou']:.3f} ({row['localization']:.2f})")
    return rows


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of all data sets")
    parser.add_argument("--run", type=Path, help="config.yml of a run of the fox scene; none leaves the fox out")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--plot", type=Path, help="picture of the overlap over the width")
    parser.add_argument("--seeds", type=int, nargs="*", help="the composed scenes; all, unless named")
    parser.add_argument("--with", type=Path, nargs="*", default=[], dest="earlier", help="JSON files of earlier runs")
    parser.add_argument("--quick", action="store_true", help="one scene, two widths, one other domain")
    options = parser.parse_args()
    start, plan = time.perf_counter(), Plan.of(options.quick)
    plan = plan if options.seeds is None else replace(plan, seeds=tuple(options.seeds))
    rows: list[Row] = [row for path in options.earlier for row in json.loads(path.read_text())["rows"]]
    rows += measure_scenes(options.data, plan) if plan.seeds else []
    if options.run is not None:
        # nerfstudio takes a while to load, and only the fox needs it.
        from composed_fox import measure_fox

        rows += measure_fox(options.run, (USUAL,) if options.quick else plan.widths)
    show_all(rows)
    CONSOLE.print(f"{time.perf_counter() - start:.0f} s in all.")
    if options.plot is not None:
        draw_widths(rows, options.plot)
    write_results(options.json, rows, bars_of(rows, USUAL))


if __name__ == "__main__":
    main()
