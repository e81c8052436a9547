"""The demo: builds the gallery, trains it, queries it with texts, and writes a report."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genlangsplat_ns.demo.gallery import QUERIES, GallerySettings, build_gallery
from genlangsplat_ns.demo.photographs import CREDITS
from genlangsplat_ns.evaluation.evaluate import AnsweredText, EvaluatedRun, evaluate_views
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF, THRESHOLD, RenderedProtocol
from genlangsplat_ns.evaluation.report import CardCollector, Report, answer_pictures, describe_encoder, write_report
from genlangsplat_ns.evaluation.scores import Evaluation
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.utils.files import atomic_path, safe_name
from genlangsplat_ns.utils.stopwatch import Stopwatch, peak_gpu_memory_gb, peak_memory_gb

LOGGER = logging.getLogger(__name__)

PROTOCOLS: tuple[RenderedProtocol, ...] = (THRESHOLD, LANGSPLAT_LERF)
"""The protocols that score the answers. The main figures use the first one."""

SPLIT_TITLES = {"eval": "Held-out views", "train": "Training views, scored separately"}


def run_demo(
    output_dir: Path,
    train: Callable[[Path, Path], Path],
    open_run: Callable[[Path], EvaluatedRun],
    settings: GallerySettings | None = None,
) -> dict[str, Any]:
    """Runs the whole demo and writes `report.json`, whose content it returns, `report.html` and `overlays/*.png`.

    The main figures are means over all (view, text) pairs of held-out views; training views are scored separately. A
    text is found if its peak is on the object in more than half of the held-out views that show it. `train` trains on
    the data folder (first argument) into a run folder (second), and returns its config.yml.
    """
    watch = Stopwatch()
    query = TextQuery(tuple(target.text for target in QUERIES))
    with watch.stage("gallery"):
        data = build_gallery(output_dir / "data", settings)
    labels = read_label_set(data / "labels").views
    with watch.stage("train"):
        config = train(data, output_dir / "run")
    with watch.stage("open"):
        run = open_run(config)
    collector = CardCollector()

    def observe(answered: AnsweredText) -> None:
        if answered.scores[0].split == "eval":
            collector.observe(answered)
            _write_overlay(output_dir / "overlays", answered)

    with watch.stage("evaluate"):
        evaluation = evaluate_views(run, run.views("all"), labels, QUERIES, query, observe=observe)
    seconds = watch.seconds
    seconds["total"] = round(sum(seconds.values()), 2)
    document = _document(run, evaluation, query, seconds, config)
    with atomic_path(output_dir / "report.json") as path:
        path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_report(output_dir / "report.html", _page(run, evaluation, document, collector))
    LOGGER.info("Wrote the report to %s.", output_dir / "report.html")
    return document


def _document(
    run: EvaluatedRun, evaluation: Evaluation, query: TextQuery, seconds: dict[str, float], config: Path
) -> dict[str, Any]:
    """Returns all measurements as JSON values."""
    held_out = evaluation.summary(THRESHOLD.name, "eval")
    splits = {score.view: score.split for score in evaluation.scores}
    texts = [text | {"found": 2 * text["hits"] > text["views"]} for text in held_out["texts"]]
    return {
        "localization": held_out["micro"]["localization"],
        "miou": held_out["micro"]["miou"],
        "texts_found": sum(text["found"] for text in texts),
        "texts_asked": len(texts),
        "split": "eval",
        "protocol": THRESHOLD.name,
        "micro": held_out["micro"],
        "macro": held_out["macro"],
        "macro_over": "texts",
        "queries": texts,
        "protocols": {
            protocol.name: {
                "rules": dataclasses.asdict(protocol),
                "eval": evaluation.summary(protocol.name, "eval"),
                "train": evaluation.summary(protocol.name, "train"),
            }
            for protocol in PROTOCOLS
        },
        "query": {key: value for key, value in dataclasses.asdict(query).items() if key != "texts"},
        "encoder": run.encoder.identity,
        "autoencoder": dataclasses.asdict(run.autoencoder_identity),
        "psnr": {
            split: float(np.mean([value for name, value in evaluation.psnr.items() if splits.get(name) == split]))
            for split in dict.fromkeys(splits.values())
        },
        "seconds": seconds,
        "peak_memory_gb": peak_memory_gb(),
        "peak_gpu_memory_gb": peak_gpu_memory_gb(),
        "config": str(config),
        "scores": [dataclasses.asdict(score) for score in evaluation.scores],
    }


def _page(run: EvaluatedRun, evaluation: Evaluation, document: dict[str, Any], collector: CardCollector) -> Report:
    """Makes the report page of the demo."""
    seconds = document["seconds"]
    autoencoder = document["autoencoder"]
    return Report(
        title="Text queries in a gallery",
        summary=(
            "A small exhibition, rendered from 3D Gaussians with language latents. Each text was queried in views that "
            "were not used in training; a text is found if the relevancy peak is on its object in most of them."
        ),
        encoder=describe_encoder(run.encoder),
        figures={
            "texts found": f"{document['texts_found']} of {document['texts_asked']}",
            "localization": f"{document['localization']:.0%}",
            "mean IoU": f"{document['miou']:.2f}",
            "PSNR, held out": f"{document['psnr']['eval']:.1f} dB",
            "total time": f"{seconds['total']:.0f} s",
        },
        facts={
            "Split": "the main figures are those of held-out views; training views are scored separately",
            "Means": "micro: all pairs of view and text; macro: texts, equally weighted",
            "Query": f"level {document['query']['level']}, threshold {document['query']['threshold']}, "
            f"negatives {', '.join(document['query']['negatives'])}",
            "Autoencoder": f"{autoencoder['name']}, {autoencoder['embedding_dim']} to {autoencoder['latent_dim']}",
            "Seconds": ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()),
            "Peak memory": f"{document['peak_memory_gb']:.2f} GB, GPU {document['peak_gpu_memory_gb']:.2f} GB",
            "Run": document["config"],
        },
        evaluation=evaluation,
        protocols=PROTOCOLS,
        splits=SPLIT_TITLES,
        cards=collector.cards,
        footer=CREDITS,
    )


def _write_overlay(folder: Path, answered: AnsweredText) -> None:
    """Writes the relevancy overlay as a PNG."""
    score = answered.scores[0]
    _, heat, *_ = answer_pictures(answered)
    with atomic_path(folder / f"{Path(score.view).stem}-{safe_name(score.text)}.png") as temporary:
        Image.fromarray(heat).save(temporary)
