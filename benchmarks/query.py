"""Measures queries: the cost of a frame with a text, the cost of a new text, and the agreement of both modes.

    python benchmarks/query.py --data DATA --json query.json

DATA is the folder with `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Costs are processor time of
all threads, which is affected less by other programs than wall time. Every part runs in its own process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from scipy.spatial import cKDTree
from torch import Tensor

from genlangsplat_ns.evaluation.evaluate import evaluate_views
from genlangsplat_ns.evaluation.protocols import THRESHOLD
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.memory import AttendedLatents
from genlangsplat_ns.language.named_autoencoders import scene_autoencoder
from genlangsplat_ns.language.pixel_scores import relevancy_maps
from genlangsplat_ns.language.projection import projection_autoencoder
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.language.settings import QueryMode
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.model import GenLangSplatModel, GenLangSplatModelConfig
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.utils.console import CONSOLE
from support.benchmark import Benchmark, Goal, Results, Row
from support.composed_lift import PROTOCOL, LiftedScene, SceneSetup
from support.composed_run import ENCODER, THING
from support.composed_scene import ComposedScene, compose
from support.made_up import made_up_decoder, made_up_memory
from support.processes import in_own_process, peak_memory_gb
from support.tables import mean_with_range, print_table, with_range
from support.timing import Stopwatch, in_turns

PartName = Literal["frame", "score", "agreement"]

WIDTH, HEIGHT = 648, 420
PER_PIXEL = "mode rendered: every pixel by the memory, three levels"
WITHOUT_MEMORY = "every pixel by the autoencoder alone (mlp), three levels"
DECODED_EVERY = 12
"""The autoencoder decodes one of this many rows of pixels, and its time is extrapolated."""

DISTINCT = 0.05
"""Standard deviation, per dimension, of the noise that makes the latents distinct."""

MASK_THRESHOLD = 0.55
"""Relevancy threshold of `threshold`: at LERF's temperature, the relevancy of CLIP's words is close to 0.5."""


def some_query(width: int, seed: int = 0) -> EmbeddedQuery:
    """A random text and four random negatives; their values do not affect the cost."""
    vectors = F.normalize(torch.randn(5, width, generator=torch.Generator().manual_seed(seed)), dim=1)
    return EmbeddedQuery(TextQuery((f"thing {seed}",)), vectors[:1], vectors[1:])


def lifted_scene(data: Path, seed: int) -> LiftedScene:
    """A composed scene with the latents of the fixed projection and the memory of its regions."""
    return SceneSetup(data, seed).lift(projection_autoencoder(ENCODER, 512))


def model_of(scene: ComposedScene, latents: Tensor) -> GenLangSplatModel:
    """The method's model with the Gaussians of a composed scene, a synthetic memory and the packaged autoencoder."""
    parts = scene.gaussians
    gaussians = GaussianParameters(
        means=parts.means,
        scales=parts.scales.log(),
        quats=parts.quats,
        features_dc=torch.logit(parts.colors, eps=1e-3),
        features_rest=torch.zeros(len(parts.means), 0, 3),
        opacities=torch.logit(parts.opacities, eps=1e-4)[:, None],
    )
    extractor = FeatureExtractor(FeatureSettings(encoder="conse", masks="watershed"))
    box = SceneBox(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    config = GenLangSplatModelConfig(sh_degree=0)
    model = config.setup(
        scene_box=box,
        num_train_data=1,
        metadata={},
        gaussians=gaussians,
        autoencoder=scene_autoencoder(config.autoencoder, extractor.encoder_identity, extractor.embedding_dim),
        load_text_encoder=extractor.load_text_encoder,
    )
    model.enter_language_phase(0)
    identity = model.field_head.autoencoder.identity
    memory = made_up_memory(latents, identity.embedding_dim, identity.encoder)
    model.set_latents(LiftedLatents(latents, torch.ones(latents.shape[:2])), memory)
    return model.eval()


def camera_of(scene: ComposedScene, index: int) -> Cameras:
    """A view of a composed scene, enlarged, as a nerfstudio camera."""
    view = scene.views[index]
    pose = torch.linalg.inv(view.viewmat)[None, :3]
    pose[..., :3] *= torch.tensor([1.0, -1.0, -1.0])
    grow = torch.tensor([WIDTH / view.width, HEIGHT / view.height, 1.0])[:, None]
    fx, fy, cx, cy = (float((grow * view.K)[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Cameras(pose, fx, fy, cx, cy, width=WIDTH, height=HEIGHT)


@torch.no_grad()
def measure_frame(data: Path, repetitions: int, slow_repetitions: int) -> Row:
    """Frames without and with a text, and decoding per pixel, in turns."""
    scene = compose(data, 0, num_views=4, held_out_every=2)
    # The values of the latents do not affect the cost; only the similarity of an object's latents matters here.
    generator = torch.Generator().manual_seed(0)
    kinds = F.normalize(torch.randn(32, len(LEVELS), 16, generator=generator), dim=-1)
    things = scene.gaussians.objects
    latents = kinds[torch.where(things >= 0, things, 16 + scene.gaussians.patches)]
    latents = latents + DISTINCT * torch.randn(latents.shape, generator=generator)
    model, camera = model_of(scene, F.normalize(latents, dim=-1)), camera_of(scene, scene.split("eval")[0])
    query = some_query(model.field_head.autoencoder.identity.embedding_dim)
    # Both are prepared once per text, not in every frame.
    decode, seen = model.field.decode, model.field.seen_scores(query)

    def every_output(asked: EmbeddedQuery | None) -> None:
        model.language._embedded = asked
        model.get_outputs(camera)

    quick: dict[str, Callable[[], object]] = {
        "plain RGB and depth": lambda: model.render_splats(camera),
        "with the relevancy of a text": lambda: model.render_scores(camera, seen),
        "all outputs of the viewer, no text": lambda: every_output(None),
        "all outputs of the viewer, a text": lambda: every_output(query),
    }
    autoencoder = model.field_head.autoencoder
    # The autoencoder costs the same for every row of pixels, so a part of them is enough.
    slow = {
        PER_PIXEL: lambda: relevancy_maps(model.render_latents(camera), decode, query),
        WITHOUT_MEMORY: lambda: relevancy_maps(
            model.render_latents(camera)[::DECODED_EVERY], autoencoder.decode, query
        ),
    }
    timings = in_turns(quick, repetitions) | in_turns(slow, slow_repetitions)
    rows = {name: timing.row() for name, timing in timings.items()}
    sampled = rows[WITHOUT_MEMORY]
    sampled |= {key: DECODED_EVERY * sampled[key] for key in sampled if key.endswith("_ms")}
    return {"part": "frame", "gaussians": model.num_points, "width": WIDTH, "height": HEIGHT, "rows": rows}


def many_latents(data: Path, count: int) -> Tensor:
    """Latents for many Gaussians: each a mixture of two neighbors in a composed scene, as after densification."""
    scene = lifted_scene(data, 0)
    latents, means = scene.lifted.latents, scene.setup.scene.gaussians.means.numpy()
    random = np.random.default_rng(0)
    parents = random.integers(len(means), size=count)
    _, neighbors = cKDTree(means).query(means, k=5)
    others = neighbors[parents, random.integers(1, 5, size=count)]
    share = torch.from_numpy(random.random((count, 1, 1)).astype(np.float32))
    return torch.lerp(latents[parents], latents[others], share)


@torch.no_grad()
def measure_score(data: Path, kind: str, count: int) -> Row:
    """The first and the second text in a scene of many Gaussians."""
    latents = many_latents(data, count)
    decode = made_up_decoder(latents)
    generator = torch.Generator().manual_seed(0)
    if kind == "distinct":
        latents += DISTINCT * torch.randn(latents.shape, generator=generator) * latents.any(dim=-1, keepdim=True)
    elif kind == "random":
        latents = torch.randn(latents.shape, generator=generator)
    field = LanguageField(torch.zeros(count, 3), torch.ones(count), latents, decode)
    before = peak_memory_gb()
    first, second = Stopwatch(), Stopwatch()
    with first:
        scores, _ = field.relevancy(some_query(512))
    with second:
        field.relevancy(some_query(512, seed=1))
    guessed = sum(len(part.rows) for part in field._decoded._parts if isinstance(part, AttendedLatents))
    return {
        "part": "score",
        "latents": kind,
        "gaussians": count,
        "guessed": guessed / (count * len(LEVELS)),
        "first_seconds": first.wall / 1e3,
        "first_processor_seconds": first.processor / 1e3,
        "next_seconds": second.wall / 1e3,
        "next_processor_seconds": second.processor / 1e3,
        "memory_before_gb": before,
        "answered": float((scores > 0).float().mean()),
    }


@torch.no_grad()
def measure_agreement(data: Path, seed: int) -> Row:
    """IoU of both modes with the labels of held-out views: real words with the memory, under two protocols."""
    scene = lifted_scene(data, seed)
    setup, run = scene.setup, scene.run("memory")
    query = TextQuery(("unused",), negatives=(THING,), threshold=MASK_THRESHOLD)
    modes: tuple[QueryMode, ...] = ("rendered", "gaussian")
    rows = []
    for mode in modes:
        evaluation = evaluate_views(
            run, run.views("eval"), setup.labels, setup.targets, query, (THRESHOLD, PROTOCOL), mode=mode
        )
        for protocol in (THRESHOLD, PROTOCOL):
            summary = evaluation.summary(protocol.name, "eval")
            micro = {key: summary["micro"][key] for key in ("miou", "localization")}
            rows.append({"protocol": protocol.name, "mode": mode, "pairs": summary["pairs"], **micro})
    return {"part": "agreement", "seed": seed, "rows": rows}


def show_frame(found: list[Row]) -> list[Goal]:
    """Times of frames, and their ratios."""
    (row,) = found
    print_table(
        ("frame", "processor ms", "wall ms (min to max)"),
        (
            (
                name,
                f"{times['processor_ms']:.1f}",
                with_range(times["median_ms"], times["min_ms"], times["max_ms"], ".1f"),
            )
            for name, times in row["rows"].items()
        ),
        title=f"{row['gaussians']:,} Gaussians, {WIDTH}x{HEIGHT}",
    )
    plain, text, viewer, viewer_text, *_ = (times["processor_ms"] for times in row["rows"].values())
    rendered = row["rows"][PER_PIXEL]
    return [
        Goal("a frame with a text relative to a plain one", text / plain, "<=", 1.25),
        Goal("all outputs with a text relative to all outputs without", viewer_text / viewer, "<=", 1.25),
        Goal("mode rendered, wall seconds per view", rendered["median_ms"] / 1e3, "<=", 1.5),
        Goal("mode rendered, seconds per view on two cores", rendered["processor_ms"] / 2e3, "<=", 1.5),
    ]


def show_score(found: list[Row]) -> list[Goal]:
    """Times and memory of a new text."""
    lines, goals = [], []
    for row in found:
        times = (f"{row[f'{when}_seconds']:.2f} ({row[f'{when}_processor_seconds']:.2f})" for when in ("first", "next"))
        about = row["latents"], f"{row['gaussians']:,}", f"{row['guessed']:.1%}"
        lines.append((*about, *times, f"{row['peak_memory_gb']:.2f}"))
        title = f"{row['gaussians']:,} Gaussians, {row['latents']}"
        goals += [
            Goal(f"{title}: first text, wall seconds", row["first_seconds"], "<=", 3),
            Goal(f"{title}: next text, wall seconds", row["next_seconds"], "<=", 0.2),
            Goal(f"{title}: peak memory in GB", row["peak_memory_gb"], "<=", 2),
        ]
    headings = ("latents", "Gaussians", "prior asked", "first text s (processor)", "next text s (processor)", "peak GB")
    print_table(headings, lines, title="1,024 keys")
    return goals


def show_agreement(found: list[Row]) -> list[Goal]:
    """Scores of both modes, and the loss of one."""
    lines, goals = [], []
    for protocol in (THRESHOLD.name, PROTOCOL.name):
        means = {}
        for mode in ("rendered", "gaussian"):
            rows = [
                row for scene in found for row in scene["rows"] if (row["protocol"], row["mode"]) == (protocol, mode)
            ]
            figures = (mean_with_range([row[key] for row in rows], ".3f") for key in ("miou", "localization"))
            means[mode] = statistics.mean(row["miou"] for row in rows)
            lines.append((protocol, mode, *figures))
        lost = 100 * (means["rendered"] - means["gaussian"])
        goals.append(Goal(f"{protocol}: points of mIoU lost by gaussian", lost, "<=", 2))
    print_table(("protocol", "mode", "mIoU", "localization"), lines)
    return goals


@dataclass(frozen=True, kw_only=True)
class QueryBenchmark(Benchmark):
    """Costs of queries, and agreement of their modes."""

    data: Path
    """Folder of all data sets."""
    seeds: int = 3
    """Number of composed scenes for the agreement."""
    parts: tuple[PartName, ...] = get_args(PartName)
    """Parts to run."""
    quick: bool = False
    """Measure fewer scenes and repetitions, and a tenth of the Gaussians."""

    def measure(self) -> Results:
        """Measures and prints each part."""
        data, quick = self.data, self.quick
        count = 100_000 if quick else 1_000_000
        calls: dict[PartName, list[tuple[Any, ...]]] = {
            "frame": [(measure_frame, data, *((7, 2) if quick else (30, 5)))],
            # Lifting does not produce random latents, so a tenth of them is enough.
            "score": [
                (measure_score, data, kind, number)
                for kind, number in (("scene", count), ("distinct", count), ("random", 100_000))
            ],
            "agreement": [(measure_agreement, data, seed) for seed in range(1 if quick else self.seeds)],
        }
        shows = {"frame": show_frame, "score": show_score, "agreement": show_agreement}
        rows: list[Row] = []
        goals: list[Goal] = []
        for name in self.parts:
            found = []
            for call in calls[name]:
                CONSOLE.print(f"Measuring {' '.join((name, *map(str, call[2:])))}.")
                found.append(in_own_process(*call))
            rows += found
            goals += shows[name](found)
        return rows, goals


if __name__ == "__main__":
    QueryBenchmark.main()
