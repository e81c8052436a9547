"""Measures time and memory of an evaluation of the size of LERF-OVS: 22 labeled views, 208 pairs of view and text.

    python benchmarks/evaluation.py --json evaluation.json

A stand-in renders views of LERF's size with latents of random outlined objects. Decoding, scoring by all protocols for
LERF-OVS, and the images of the page use the real code, in both modes. The rendering of Gaussians is not included: in
the mode `gaussian`, every pixel shows one of a million Gaussians. Latents are decoded by a memory of 1,024 keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F

from genlangsplat_ns.evaluation.evaluate import evaluate_views
from genlangsplat_ns.evaluation.labels import LabeledObject, ViewLabels
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF, LANGSPLATV2_LERF, OCCAM_LERF, THRESHOLD
from genlangsplat_ns.evaluation.report import CardCollector
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.settings import QueryMode
from genlangsplat_ns.levels import LEVELS
from support.benchmark import Benchmark, Goal, Results, Row
from support.made_up import made_up_decoder
from support.processes import in_own_process
from support.stage_check import category_map
from support.tables import print_table
from support.timing import Stopwatch

VIEWS, PAIRS, WIDTH, HEIGHT = 22, 208, 988, 731
QUICK_VIEWS = 2
MOST_MINUTES, MOST_GIGABYTES = 4.0, 4.0
PROTOCOLS = (LANGSPLAT_LERF, LANGSPLATV2_LERF, OCCAM_LERF, THRESHOLD)
LATENT_DIM = 16
NUM_GAUSSIANS = 1_000_000
NOISE = 0.3
"""Standard deviation, per dimension, of the latents of one object around their mean; the means have one of 1."""


class RandomWords:
    """Encodes every text as a random direction."""

    name = identity = "random"

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        """Returns one unit vector per text."""
        generators = (torch.Generator().manual_seed(sum(map(ord, text))) for text in texts)
        return F.normalize(torch.stack([torch.randn(512, generator=generator) for generator in generators]), dim=-1)


class StandInRun:
    """Views of random objects."""

    def __init__(self, labels: dict[str, ViewLabels]) -> None:
        torch.manual_seed(0)
        self.labels = labels
        self.autoencoder_identity = AutoencoderIdentity("random", "random", 512, LATENT_DIM, "mlp")
        self.encoder = RandomWords()
        self.categories = list(dict.fromkeys(name for view in labels.values() for name in view.categories))
        self.vectors = torch.randn(len(self.categories) + 1, LATENT_DIM)
        seen = self.vectors.repeat(20, 1)
        self.decode = made_up_decoder(seen + NOISE * torch.randn(seen.shape))

    def views(self, split: Any) -> list[Any]:
        """One view per label."""
        return [SimpleNamespace(name=f"{stem}.jpg", split="train") for stem in self.labels]

    def image(self, view: Any) -> torch.Tensor:
        """Random colors."""
        return torch.randint(256, (HEIGHT, WIDTH, 3), dtype=torch.uint8)

    def mask(self, view: Any) -> None:
        """All pixels count."""

    def owners(self, view: Any) -> torch.Tensor:
        """The object that each pixel shows, (height, width)."""
        labels = self.labels[view.name.partition(".")[0]]
        return category_map(labels, self.categories, WIDTH, HEIGHT).long()

    def render(self, view: Any) -> Any:
        """Random colors, and the latents of the objects with noise."""
        latents = self.vectors[self.owners(view)][:, :, None]
        noise = NOISE * torch.randn(HEIGHT, WIDTH, len(LEVELS), LATENT_DIM)
        return SimpleNamespace(rgb=self.render_rgb(view), latents=latents + noise)

    def render_rgb(self, view: Any) -> torch.Tensor:
        """Random colors."""
        return torch.rand(HEIGHT, WIDTH, 3)

    @cached_property
    def field(self) -> LanguageField:
        """Opaque Gaussians with the latents of the objects in turn, with noise."""
        owners = torch.arange(NUM_GAUSSIANS) % len(self.vectors)
        latents = self.vectors[owners][:, None] + NOISE * torch.randn(NUM_GAUSSIANS, len(LEVELS), LATENT_DIM)
        return LanguageField(torch.zeros(NUM_GAUSSIANS, 3), torch.ones(NUM_GAUSSIANS), latents, self.decode)

    def render_scores(self, view: Any, scores: torch.Tensor) -> torch.Tensor:
        """Every pixel shows a Gaussian of its object."""
        copies = NUM_GAUSSIANS // len(self.vectors)
        return scores[self.owners(view) + len(self.vectors) * torch.randint(copies, (HEIGHT, WIDTH))]

    def render_opacity(self, view: Any, selected: torch.Tensor) -> torch.Tensor:
        """The pixels that show a selected Gaussian."""
        return self.render_scores(view, selected).float()


def random_labels(num_views: int) -> dict[str, ViewLabels]:
    """Random triangles, as many objects per view as in LERF-OVS, each with its own category."""
    random = np.random.default_rng(0)
    labels = {}
    for number in range(num_views):
        count = PAIRS // VIEWS + (number < PAIRS % VIEWS)
        objects = []
        for index in range(count):
            corner = random.uniform([0, 0], [WIDTH - 200, HEIGHT - 200])
            triangle = corner + random.uniform(0, 200, (3, 2))
            objects.append(LabeledObject.from_polygon(f"object {index}", triangle.tolist()))
        labels[f"frame_{number:05d}"] = ViewLabels(f"frame_{number:05d}.jpg", WIDTH, HEIGHT, tuple(objects))
    return labels


def measure_evaluation(num_views: int, mode: QueryMode) -> Row:
    """Evaluates a number of views and measures the time."""
    torch.set_num_threads(2)
    labels = random_labels(num_views)
    run = StandInRun(labels)
    collector = CardCollector()
    watch = Stopwatch()
    with watch:
        evaluation = evaluate_views(
            run, run.views("all"), labels, protocols=PROTOCOLS, observe=collector.observe, mode=mode
        )
    times = {"seconds": watch.wall / 1e3, "processor_seconds": watch.processor / 1e3}
    pairs = evaluation.summary(LANGSPLAT_LERF.name, "all")["pairs"]
    megabytes = sum(len(picture) for card in collector.cards for picture in card.pictures) / 1e6
    return {"mode": mode, "views": num_views, "pairs": pairs, **times, "page_mb": megabytes}


@dataclass(frozen=True, kw_only=True)
class EvaluationBenchmark(Benchmark):
    """Time and memory of a large evaluation."""

    quick: bool = False
    """Measure two views, and get the time of all by multiplication."""

    def measure(self) -> Results:
        """Measures both modes."""
        lines, rows, goals = [], [], []
        for mode in get_args(QueryMode):
            views = QUICK_VIEWS if self.quick else VIEWS
            row = in_own_process(measure_evaluation, views, mode)
            minutes = row["seconds"] / 60 * VIEWS / views
            times = f"{row['seconds']:.0f} ({row['processor_seconds']:.0f})"
            cells = (times, f"{minutes:.1f}", f"{row['peak_memory_gb']:.2f}", f"{row['page_mb']:.0f}")
            lines.append((mode, str(views), str(row["pairs"]), *cells))
            rows.append(row)
            goals += [
                Goal(f"{mode}: minutes for {PAIRS} pairs in {VIEWS} views, 2 threads", minutes, "<=", MOST_MINUTES),
                Goal(f"{mode}: peak of memory in GB", row["peak_memory_gb"], "<=", MOST_GIGABYTES),
            ]
        headings = ("mode", "views", "pairs", "s (processor)", "minutes for all", "GB", "pictures of the page in MB")
        print_table(headings, lines)
        return rows, goals


if __name__ == "__main__":
    EvaluationBenchmark.main()
