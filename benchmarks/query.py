"""Measures questions: what a frame costs after a text was entered, what a new text costs, and whether both modes agree.

    python benchmarks/query.py --data DATA --json query.json

DATA is the folder that holds `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Costs are processor
time over all threads, which other programs beside this one change less than the clock. Every part is a process of its
own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from rich.table import Table
from scipy.spatial import cKDTree
from torch import Tensor

from common import Bar, in_own_process, options_of, peak_memory_gb, worked, write_results
from composed_scene import ComposedScene, RegionSettings, compose, source_vectors, unlike_looks
from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import CategoryTruth
from genlangsplat_ns.evaluation.metrics import intersection_over_union, is_hit
from genlangsplat_ns.evaluation.prediction import predict
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF, THRESHOLD
from genlangsplat_ns.features.front_end import FrontEnd
from genlangsplat_ns.features.settings import FrontEndSettings
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialise_from_pca
from genlangsplat_ns.language.decoding import decoding_of
from genlangsplat_ns.language.gaussian_scores import DecodedGaussians, SeenScores, join_levels
from genlangsplat_ns.language.lifting import LiftedLatents, LiftSettings
from genlangsplat_ns.language.named import load_autoencoder
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery, relevancy_maps, relevancy_of_zero
from genlangsplat_ns.language.refinement import lift_latents
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.model import GenLangSplatModel, GenLangSplatModelConfig
from genlangsplat_ns.scene_io.gaussians import Gaussians
from language_scene import LatentScene, composite_all, encode_regions, latent_scene
from timing import Stopwatch, Timing, timing_of

Row = dict[str, Any]

WIDTH, HEIGHT = 648, 420
SMALL = {"num_objects": 6, "num_views": 16, "width": 216, "height": 144, "max_gaussians": 4000}
PER_PIXEL = "latents decoded per pixel, three levels"
DECODED_EVERY = 12
"""Of so many rows of pixels one is decoded, and its time is multiplied."""

SMALLEST_OBJECT = 60
"""Pixels of an object that a view must show to count."""


def some_query(width: int, num_texts: int = 1) -> EmbeddedQuery:
    """Random texts and four random negatives: what they are costs nothing."""
    vectors = F.normalize(torch.randn(num_texts + 4, width, generator=torch.Generator().manual_seed(0)), dim=1)
    texts = tuple(f"thing {number}" for number in range(num_texts))
    return EmbeddedQuery(TextQuery(texts), vectors[:num_texts], vectors[num_texts:])


@torch.enable_grad()
def lifted_scene(data: Path, seed: int, quick: bool) -> tuple[LatentScene, Tensor]:
    """A composed scene and the latents that lifting gives it; quickly, small and by principal components alone."""
    scene = latent_scene_by_components(data, seed) if quick else latent_scene(data, seed)
    return scene, lift_latents(scene.training(), *scene.shape, LiftSettings(robust_rounds=1 if quick else 3)).latents


def latent_scene_by_components(data: Path, seed: int) -> LatentScene:
    """A small composed scene whose autoencoder is a projection on principal components, which takes no training."""
    scene = compose(data, seed, **SMALL)
    identity = AutoencoderIdentity("components", "clip-vit-b-32", scene.photographs.shape[1], 16, architecture="linear")
    autoencoder = Autoencoder(identity).eval().requires_grad_(False)
    things = unlike_looks(scene, scene.texts.repeat(20, 1), np.random.default_rng(7))
    initialise_from_pca(autoencoder, torch.cat([scene.photographs, things]))
    regions = encode_regions(scene, autoencoder, RegionSettings())
    sources = autoencoder.encode(source_vectors(scene, RegionSettings()))
    return LatentScene(scene, autoencoder, composite_all(scene), regions, sources)


def model_of(scene: ComposedScene, latents: Tensor) -> GenLangSplatModel:
    """The method's model with the Gaussians of a composed scene and the packaged autoencoder, an MLP."""
    parts = scene.gaussians
    gaussians = Gaussians(
        means=parts.means,
        scales=parts.scales.log(),
        quats=parts.quats,
        features_dc=torch.logit(parts.colors, eps=1e-3),
        features_rest=torch.zeros(len(parts.means), 0, 3),
        opacities=torch.logit(parts.opacities, eps=1e-4)[:, None],
    )
    metadata = {"front_end": FrontEnd(FrontEndSettings(encoder="conse", masks="watershed"))}
    box = SceneBox(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    config = GenLangSplatModelConfig(sh_degree=0)
    model = config.setup(scene_box=box, num_train_data=1, metadata=metadata, gaussians=gaussians)
    model.enter_language_phase(0)
    model.set_latents(LiftedLatents(latents, torch.ones(latents.shape[:2])))
    return model.eval()


def camera_of(scene: ComposedScene, index: int) -> Cameras:
    """A view of a composed scene, enlarged, as nerfstudio has cameras."""
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
    # What latents mean costs nothing; that those of a thing are alike is all that matters here.
    kinds = torch.randn(32, len(LEVELS), 16, generator=torch.Generator().manual_seed(0))
    things = scene.gaussians.objects
    latents = kinds[torch.where(things >= 0, things, 16 + scene.gaussians.patches)]
    model, camera = model_of(scene, F.normalize(latents, dim=-1)), camera_of(scene, scene.split("eval")[0])
    query = some_query(model.field_head.autoencoder.identity.embedding_dim)
    model.gaussian_relevancy(query)

    def every_output(asked: EmbeddedQuery | None) -> None:
        model.language._embedded = asked
        model.get_outputs(camera)

    quick: dict[str, Callable[[], object]] = {
        "plain RGB and depth": lambda: model.render_splats(camera),
        "with the relevancy of a text": lambda: model.render_relevancy(camera, query),
        "all outputs of the viewer, no text": lambda: every_output(None),
        "all outputs of the viewer, a text": lambda: every_output(query),
    }
    # Decoding costs the same for every row of pixels, so some of them do.
    slow = {PER_PIXEL: lambda: relevancy_maps(model.render_latents(camera)[::DECODED_EVERY], model.decode, query)}
    timings = in_turns(quick, repetitions) | in_turns(slow, slow_repetitions)
    rows = {name: timing.row() for name, timing in timings.items()}
    rows[PER_PIXEL] |= {key: DECODED_EVERY * rows[PER_PIXEL][key] for key in rows[PER_PIXEL] if key.endswith("_ms")}
    return {"part": "frame", "gaussians": model.num_points, "width": WIDTH, "height": HEIGHT, "rows": rows}


def in_turns(works: dict[str, Callable[[], object]], repetitions: int) -> dict[str, Timing]:
    """Times several pieces of work one after the other, again and again, so that all meet the same machine."""
    watches: dict[str, list[Stopwatch]] = {name: [] for name in works}
    for number in range(repetitions + 1):
        for name, work in works.items():
            watch = Stopwatch()
            with watch:
                work()
            if number:
                watches[name].append(watch)
    return {name: timing_of(found) for name, found in watches.items()}


def many_latents(data: Path, count: int) -> Tensor:
    """Latents of as many Gaussians as wanted: each a mixture of two neighbours of a composed scene, as children are."""
    scene, latents = lifted_scene(data, 0, quick=True)
    means = scene.scene.gaussians.means.numpy()
    random = np.random.default_rng(0)
    parents = random.integers(len(means), size=count)
    _, neighbours = cKDTree(means).query(means, k=5)
    others = neighbours[parents, random.integers(1, 5, size=count)]
    share = torch.from_numpy(random.random((count, 1, 1)).astype(np.float32))
    return torch.lerp(latents[parents], latents[others], share)


@torch.no_grad()
def measure_score(data: Path, kind: str, count: int) -> Row:
    """The first and the second text of a scene of many Gaussians."""
    decode = load_autoencoder("conse").decode
    if kind == "scene":
        latents = many_latents(data, count)
    else:
        latents = torch.randn(count, len(LEVELS), 16, generator=torch.Generator().manual_seed(0))
    before = peak_memory_gb()
    start = time.perf_counter(), time.process_time()
    embeddings = DecodedGaussians(latents, decode)
    scores = embeddings.score(some_query(384))
    first = time.perf_counter() - start[0], time.process_time() - start[1]
    start = time.perf_counter(), time.process_time()
    join_levels(embeddings.score(some_query(384, 2)), torch.ones(count), "mean")
    second = time.perf_counter() - start[0], time.process_time() - start[1]
    return {
        "part": "score",
        "latents": kind,
        "gaussians": count,
        "decoded": embeddings.num_decoded,
        "first_seconds": first[0],
        "first_processor_seconds": first[1],
        "next_seconds": second[0],
        "next_processor_seconds": second[1],
        "memory_before_gb": before,
        "answered": float((scores > 0).float().mean()),
    }


@torch.no_grad()
def measure_agreement(data: Path, seed: int, quick: bool) -> Row:
    """IoU of both modes with the labels of held-out views, under both protocols."""
    scene, latents = lifted_scene(data, seed, quick)
    # Sixteen numbers hardly keep how a word differs from others, so objects are asked for by what their regions share.
    names, sources = scene.scene.objects, source_vectors(scene.scene, RegionSettings())
    decode = decoding_of(scene.autoencoder)
    embeddings = DecodedGaussians(latents, decode)
    scored: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number, name in enumerate(names):
        query = TextQuery((name,), ("everything else",), threshold=0.5)
        negatives = torch.cat([sources[:number], sources[number + 1 :]])
        asked = EmbeddedQuery(query, sources[number : number + 1], negatives)
        decoded_zero = float(relevancy_of_zero(latents, decode, asked))
        scores = embeddings.score(asked)
        opacities = scene.scene.gaussians.opacities
        joined = {rule: join_levels(scores, opacities, rule)[0] for rule in ("mean", "auto")}
        for index in scene.scene.split("eval"):
            shown = (scene.scene.labels[index] == number).numpy()
            if shown.sum() < SMALLEST_OBJECT:
                continue
            weights = scene.weights[index]
            rendered = weights.composite(latents.flatten(1).contiguous()).unflatten(-1, latents.shape[1:])
            alphas = weights.composite(torch.ones(len(latents), 1))
            rows, columns = np.nonzero(shown)
            box = (float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max()))
            truth = CategoryTruth(shown, (box,))
            for protocol, rule in ((THRESHOLD, "mean"), (LANGSPLAT_LERF, "auto")):
                seen = SeenScores(joined[rule])
                splatted = seen.divide(weights.composite(seen.channels), alphas)
                maps = {"rendered": relevancy_maps(rendered, decode, asked)[0], "gaussian": splatted.permute(2, 0, 1)}
                for mode, found in maps.items():
                    answer = predict(found, protocol, replace(asked.query, level="mean"), decoded_zero)
                    iou = intersection_over_union(answer.mask, shown)
                    hit = float(is_hit(answer.peaks, truth, protocol.target))
                    scored.setdefault((protocol.name, mode), []).append((iou, hit))
    rows = [
        {"protocol": protocol, "mode": mode, "pairs": len(found), "miou": means[0], "localization": means[1]}
        for (protocol, mode), found in scored.items()
        for means in [np.mean(found, axis=0).tolist()]
    ]
    return {"part": "agreement", "seed": seed, "rows": rows}


def work(arguments: list[str]) -> Row:
    """What a process of its own does."""
    kind, data, *rest = arguments
    if kind == "frame":
        return measure_frame(Path(data), int(rest[0]), int(rest[1]))
    if kind == "score":
        return measure_score(Path(data), rest[0], int(rest[1]))
    if kind == "agreement":
        return measure_agreement(Path(data), int(rest[0]), rest[1] == "quick")
    raise GenLangSplatError(f"There is no part {kind}.")


def show_frame(found: list[Row]) -> list[Bar]:
    """Times of frames, and their ratios."""
    (row,) = found
    table = Table("frame", "processor ms", "wall ms (least to most)", title=f"{row['gaussians']:,} Gaussians, 648x420")
    for name, times in row["rows"].items():
        spread = f"{times['median_ms']:.1f} ({times['min_ms']:.1f} to {times['max_ms']:.1f})"
        table.add_row(name, f"{times['processor_ms']:.1f}", spread)
    CONSOLE.print(table)
    plain, text, viewer, viewer_text, decoded = (times["processor_ms"] for times in row["rows"].values())
    return [
        Bar("a frame with a text over a plain one", text / plain, "<=", 1.25),
        Bar("all outputs with a text over all outputs without", viewer_text / viewer, "<=", 1.25),
        Bar("decoding per pixel over a frame with a text", decoded / text, ">=", 30),
    ]


def show_score(found: list[Row]) -> list[Bar]:
    """Times and memory of a new text."""
    table = Table("latents", "Gaussians", "decoded", "first text s (processor)", "next text s (processor)", "peak GB")
    for row in found:
        table.add_row(
            row["latents"],
            f"{row['gaussians']:,}",
            f"{row['decoded']:,}",
            *(f"{row[f'{when}_seconds']:.2f} ({row[f'{when}_processor_seconds']:.2f})" for when in ("first", "next")),
            f"{row['peak_memory_gb']:.2f}",
        )
    CONSOLE.print(table)
    row = found[0]
    title = f"{row['gaussians']:,} Gaussians"
    return [
        Bar(f"{title}, first text, seconds of two cores", row["first_processor_seconds"] / 2, "<=", 10),
        Bar(f"{title}, next text, seconds of two cores", row["next_processor_seconds"] / 2, "<=", 10),
        Bar(f"{title}, peak memory in GB", row["peak_memory_gb"], "<=", 2),
    ]


def show_agreement(found: list[Row]) -> list[Bar]:
    """Scores of both modes, and the points that one loses."""
    table = Table("protocol", "mode", "mIoU", "localization")
    bars = []
    for protocol in (THRESHOLD.name, LANGSPLAT_LERF.name):
        means = {}
        for mode in ("rendered", "gaussian"):
            rows = [
                row for scene in found for row in scene["rows"] if (row["protocol"], row["mode"]) == (protocol, mode)
            ]
            figures = []
            for key in ("miou", "localization"):
                values = [row[key] for row in rows]
                figures.append(f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
            means[mode] = statistics.mean(row["miou"] for row in rows)
            table.add_row(protocol, mode, *figures)
        lost = 100 * (means["rendered"] - means["gaussian"])
        bars.append(Bar(f"{protocol}: points of mIoU that gaussian loses to rendered", lost, "<=", 3))
    CONSOLE.print(table)
    return bars


def main() -> None:
    """Runs everything, or one part as a process of its own."""
    parser = options_of(__doc__, "fewer scenes and repetitions, a tenth of the Gaussians")
    parser.add_argument("--data", type=Path, help="the folder of all data sets")
    parser.add_argument("--seeds", type=int, default=3, help="composed scenes for the agreement")
    parser.add_argument("--parts", nargs="+", choices=("frame", "score", "agreement"), help="only these")
    options = parser.parse_args()
    if worked(options, work):
        return
    if options.data is None:
        raise SystemExit("Name the folder of all data sets with --data.")
    data, quick = str(options.data.resolve()), options.quick
    count = "100000" if quick else "1000000"
    parts: dict[str, tuple[Callable[[list[Row]], list[Bar]], list[tuple[str, ...]]]] = {
        "frame": (show_frame, [("frame", data, *(("7", "1") if quick else ("30", "3")))]),
        "score": (
            show_score,
            [("score", data, "scene", count), *([] if quick else [("score", data, "random", count)])],
        ),
        "agreement": (
            show_agreement,
            [
                ("agreement", data, str(seed), "quick" if quick else "whole")
                for seed in range(1 if quick else options.seeds)
            ],
        ),
    }
    rows: list[Row] = []
    bars: list[Bar] = []
    for name in options.parts or parts:
        show, calls = parts[name]
        found = []
        for call in calls:
            CONSOLE.print(f"Measuring {' '.join((call[0], *call[2:]))}.")
            found.append(in_own_process(__file__, *call))
        rows += found
        bars += show(found)
    write_results(options.json, rows, bars)


if __name__ == "__main__":
    main()
