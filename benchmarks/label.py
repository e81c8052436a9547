"""Gives every Gaussian of composed scenes a class and an instance, with real CLIP words and exact labels.

    python benchmarks/label.py --data DATA --json label.json

DATA is the folder with `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Each scene has eight
objects with six words: two of the words name two objects each, which stand apart. The latents are lifted from regions
with the errors of a mask model, as in `composed.py`, and decoded by the scene memory. A Gaussian of the room is right
if it is unlabeled. The last part labels a synthetic scene of a million Gaussians with 200 texts in its own process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.labeling import GaussianLabels, label_field, label_query
from genlangsplat_ns.language.query import EmbeddedQuery, embed_query
from genlangsplat_ns.language.settings import LabelSettings
from genlangsplat_ns.utils.console import CONSOLE
from support.benchmark import Benchmark, Goal, Results, Row
from support.composed_autoencoders import train_on
from support.composed_lift import SceneSetup
from support.composed_run import THING
from support.made_up import made_up_decoder
from support.processes import in_own_process
from support.tables import mean_with_range, print_table

WIDTH, REPEATED, SCENES = 16, 2, 4
OPAQUE = 0.5
"""Gaussians with at least this opacity are judged."""

USUAL = LabelSettings(negatives=(THING,))
VARIANTS: dict[str, LabelSettings] = {
    "highest level, 0.5 (default)": USUAL,
    "highest level, 0.55": replace(USUAL, threshold=0.55),
    "mean of the levels, 0.5": replace(USUAL, level="mean"),
    "subpart, 0.5": replace(USUAL, level="subpart"),
    "part, 0.5": replace(USUAL, level="part"),
    "whole, 0.5": replace(USUAL, level="whole"),
}
DEFAULT = next(iter(VARIANTS))


def measure_scene(setup: SceneSetup, field: LanguageField) -> Iterable[Row]:
    """The rows of one scene, one per variant."""
    gaussians, names = setup.scene.gaussians, setup.scene.objects
    sizes = gaussians.scales.amax(dim=1)
    for variant, settings in VARIANTS.items():
        query = label_query(names, settings)
        numbers = torch.tensor([query.texts.index(name) + 1 for name in names] + [0])
        # The index -1 of the room is that of the last entry.
        truth, opaque = numbers[gaussians.objects], gaussians.opacities >= OPAQUE
        start = time.perf_counter()
        labels = label_field(field, sizes, embed_query(query, setup.encoder), settings)
        seconds = time.perf_counter() - start
        right, thing = labels.class_ids == truth, gaussians.objects >= 0
        yield {
            "part": "scene",
            "seed": setup.scene.seed,
            "variant": variant,
            "right": float(right[opaque].float().mean()),
            "right_objects": float(right[opaque & thing].float().mean()),
            "right_room": float(right[opaque & ~thing].float().mean()),
            "seconds": seconds,
            **judge_instances(labels, gaussians.objects, truth, opaque, names),
        }


def judge_instances(
    labels: GaussianLabels, objects: Tensor, truth: Tensor, opaque: Tensor, names: tuple[str, ...]
) -> Row:
    """Compares instances with objects.

    Returns:
        `purity`: the share of the Gaussians in instances that belong to the object that most of their instance belong
        to. `whole`: the share of the correctly classified Gaussians of an object that are in its main instance, mean
        over the objects. `apart`: the share of pairs of objects with the same word whose main instances differ.
        `instances`: their number.
    """
    counted = opaque & (labels.instance_ids > 0)
    table = torch.zeros(int(labels.instance_ids.max()) + 1, len(names) + 1)
    owners = torch.where(objects >= 0, objects, len(names))
    table.index_put_((labels.instance_ids[counted], owners[counted]), torch.ones(int(counted.sum())), accumulate=True)
    main, shares = [], []
    for number in range(len(names)):
        own = labels.instance_ids[opaque & (objects == number) & (labels.class_ids == truth)]
        counts = torch.bincount(own, minlength=2)
        main.append(int(counts[1:].argmax()) + 1)
        shares.append(float(counts[main[-1]] / counts.sum().clamp(min=1)))
    same = [(a, b) for a in range(len(names)) for b in range(a) if names[a] == names[b]]
    return {
        "purity": float(table.amax(dim=1).sum() / table.sum()),
        "whole": statistics.mean(shares),
        "apart": sum(main[a] != main[b] for a, b in same) / len(same),
        "instances": int(labels.instance_ids.max()),
    }


def measure_large(num_gaussians: int, num_texts: int) -> Row:
    """Labels a synthetic scene: a ball of Gaussians for each text, with latents around one direction."""
    generator = torch.Generator().manual_seed(0)
    owner = torch.arange(num_gaussians) % num_texts
    centers = 100 * torch.rand(num_texts, 3, generator=generator)
    means = centers[owner] + torch.randn(num_gaussians, 3, generator=generator)
    kinds = F.normalize(torch.randn(num_texts, WIDTH, generator=generator), dim=1)
    latents = kinds[owner][:, None].repeat(1, 3, 1)
    latents += 0.05 * torch.randn(latents.shape, generator=generator)
    latents = F.normalize(latents, dim=-1)
    field = LanguageField(means, torch.full((num_gaussians,), 0.9), latents, made_up_decoder(latents))
    vectors = F.normalize(torch.randn(num_texts + 1, 512, generator=generator), dim=1)
    settings = LabelSettings(negatives=(THING,))
    query = label_query([f"text {number}" for number in range(num_texts)], settings)
    embedded = EmbeddedQuery(query, vectors[1:], vectors[:1])
    start, processor = time.perf_counter(), time.process_time()
    labels = label_field(field, torch.full((num_gaussians,), 0.01), embedded, settings)
    return {
        "part": "large",
        "gaussians": num_gaussians,
        "texts": num_texts,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
        "instances": int(labels.instance_ids.max()),
    }


def show(rows: list[Row]) -> list[Goal]:
    """Prints the tables and returns the goals."""
    scenes = [row for row in rows if row["part"] == "scene"]
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in scenes):
        own = [row for row in scenes if row["variant"] == variant]
        figures = ("right", "right_objects", "right_room", "purity", "whole", "apart")
        lines.append((variant, *(mean_with_range([row[figure] for row in own], ".3f") for figure in figures)))
    headings = ("level and threshold", "right", "of objects", "of the room", "instances: purity", "whole", "told apart")
    print_table(headings, lines, title=f"Opaque Gaussians of {len({row['seed'] for row in scenes})} scenes")
    goals = []
    for row in (row for row in rows if row["part"] == "large"):
        figures = f"{row['seconds']:.1f} s ({row['processor_seconds']:.1f} s), {row['peak_memory_gb']:.2f} GB"
        CONSOLE.print(f"{row['gaussians']:,} Gaussians and {row['texts']} texts: {figures}")
        title = f"peak memory in GB, {row['gaussians']:,} Gaussians, {row['texts']} texts"
        goals.append(Goal(title, row["peak_memory_gb"], "<=", 2))
    usual = [row for row in scenes if row["variant"] == DEFAULT]
    if usual:
        goals += [
            Goal("class of opaque Gaussians, worst scene", min(row["right"] for row in usual), ">=", 0.9),
            Goal("instances of one class that are told apart", min(row["apart"] for row in usual), ">=", 1),
        ]
    return goals


@dataclass(frozen=True, kw_only=True)
class LabelBenchmark(Benchmark):
    """Classes and instances of Gaussians in scenes with exact labels."""

    data: Path
    """Folder of all data sets."""
    seeds: tuple[int, ...] = tuple(range(SCENES))
    """Indices of the composed scenes."""
    large: tyro.conf.FlagConversionOff[bool] = True
    """Measure time and memory with a million Gaussians."""
    quick: bool = False
    """Measure one scene, and a tenth of the Gaussians."""

    def measure(self) -> Results:
        """Labels the scenes."""
        rows: list[Row] = []
        foreign = None
        for seed in self.seeds[:1] if self.quick else self.seeds:
            setup = SceneSetup(self.data, seed, foreign, repeated=REPEATED)
            if foreign is None:
                foreign = setup.foreign
                code = train_on(foreign, "images", WIDTH)
            rows += measure_scene(setup, setup.lift(code).run("memory").field)
        if self.large:
            rows.append(in_own_process(measure_large, 100_000 if self.quick else 1_000_000, 200))
        return rows, show(rows)


if __name__ == "__main__":
    LabelBenchmark.main()
