"""Evaluating a trained run against labels: what is asked, what is written down, and what stands beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table

from genlangsplat_ns import __version__
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import evaluate_views, match_views
from genlangsplat_ns.evaluation.label_folders import FOLDER_NAMES, LabelKind, LabelSet, read_label_set
from genlangsplat_ns.evaluation.metrics import psnr
from genlangsplat_ns.evaluation.protocols import (
    GAUSSIAN_SELECTION,
    LANGSPLAT_3DOVS,
    LANGSPLAT_LERF,
    LANGSPLATV2_LERF,
    OCCAM_LERF,
    THRESHOLD,
    EvaluationProtocol,
    named_protocols,
)
from genlangsplat_ns.evaluation.published import PublishedScore, is_published_scene, published_scores
from genlangsplat_ns.evaluation.report import CardCollector, Report, describe_encoder, percent, write_report
from genlangsplat_ns.evaluation.scores import Evaluation
from genlangsplat_ns.language.memory import DecoderName
from genlangsplat_ns.language.query import QueryMode, TextQuery
from genlangsplat_ns.pipeline import GenLangSplatPipeline
from genlangsplat_ns.rasterization.ssim import structural_similarity
from genlangsplat_ns.run import open_pipeline
from genlangsplat_ns.scene.labels import find_scene_labels, warp_labels
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.run_config import read_run_config
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path, file_sha256
from genlangsplat_ns.utils.progress import track

USUAL_PROTOCOLS: dict[LabelKind, tuple[EvaluationProtocol, ...]] = {
    "lerf-ovs": (LANGSPLAT_LERF, LANGSPLATV2_LERF, OCCAM_LERF, THRESHOLD, GAUSSIAN_SELECTION),
    "3d-ovs": (LANGSPLAT_3DOVS, THRESHOLD, GAUSSIAN_SELECTION),
    "masks": (LANGSPLAT_LERF, THRESHOLD, GAUSSIAN_SELECTION),
}
"""By which rules labels of each layout are scored unless others are named; the first decides."""

SPLIT_TITLES = {
    "all": "All labeled views",
    "eval": "Held-out views",
    "train": "Training views: the scene was fitted to them",
}


def evaluate_run(
    config_path: Path,
    output_dir: Path,
    labels_folder: Path | None = None,
    protocols: Sequence[str] = (),
    holdout_labeled: bool = False,
    mode: QueryMode = "rendered",
    decoder: DecoderName | Literal["both"] | None = None,
) -> dict[str, Any]:
    """Asks a run for every labeled category in every labeled view and writes `evaluation.json` and `report.html`.

    Args:
        config_path: The run's `config.yml`.
        output_dir: Gets the files.
        labels_folder: The labels; None for those beside the data.
        protocols: Names of protocols, the one that decides first; none for those usual with the labels' layout.
        holdout_labeled: Lift the latents anew without the labeled views, in memory only. The colors have seen them.
        mode: Where the relevancy of pixels comes from (see `evaluate_views`).
        decoder: What decodes latents; `both` for the memory, and the autoencoder beside it; None for what the run says.

    Returns:
        What `evaluation.json` holds.

    Raises:
        GenLangSplatError: If the run cannot be opened or lacks the memory asked for, or there are no labels, or those
            of another scene.
    """
    start = time.perf_counter()
    chosen = named_protocols(tuple(protocols))
    first: DecoderName | None = "memory" if decoder == "both" else decoder
    # A memory that is about to be fitted anew need not be there, nor be whole.
    pipeline, checkpoint = open_pipeline(config_path, "autoencoder" if holdout_labeled else first)
    scene = LanguageScene(pipeline.model, pipeline.datamanager)
    labels = find_scene_labels(scene) if labels_folder is None else read_label_set(labels_folder)
    if labels is None:
        raise GenLangSplatError(
            f"There are no labels beside {scene.datamanager.config.dataparser.data}: looked for the folders "
            f"{', '.join(FOLDER_NAMES)}. Name them with --labels FOLDER."
        )
    chosen = chosen or USUAL_PROTOCOLS[labels.kind]
    views = scene.views("all")
    labels = warp_labels(labels, scene, views)
    if holdout_labeled:
        _lift_without(pipeline, [view.name for view, _ in match_views(views, labels.views).pairs])
        pipeline.model.decode_by(first or read_run_config(config_path).model.get("decoder", "memory"))
    collector = CardCollector()
    evaluation = evaluate_views(scene, views, labels.views, protocols=chosen, observe=collector.observe, mode=mode)
    decoders = {pipeline.model.decoder: evaluation}
    document = _document(scene, labels, evaluation, chosen, holdout_labeled)
    document |= {"mode": mode, "decoder": pipeline.model.decoder}
    if decoder == "both":
        pipeline.model.decode_by("autoencoder")
        decoders["autoencoder"] = evaluate_views(scene, views, labels.views, protocols=chosen, mode=mode)
        document["decoders"] = {
            name: {
                protocol.name: {split: found.summary(protocol.name, split) for split in SPLIT_TITLES}
                for protocol in chosen
            }
            for name, found in decoders.items()
        }
    document |= _provenance(config_path, checkpoint, scene) | {"seconds": round(time.perf_counter() - start, 1)}
    with atomic_path(output_dir / "evaluation.json") as path:
        path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    published = published_scores(labels.kind, scene_name(scene))
    write_report(output_dir / "report.html", _page(document, scene, labels, evaluation, chosen, published, collector))
    _print(decoders, chosen, published, document)
    CONSOLE.print(f"Wrote {escape(str(output_dir))}/evaluation.json and report.html.")
    return document


def scene_name(scene: LanguageScene) -> str:
    """The name of the folder of a scene's data."""
    data = Path(scene.datamanager.config.dataparser.data).resolve()
    return (data if data.is_dir() else data.parent).name


def _lift_without(pipeline: GenLangSplatPipeline, names: Sequence[str]) -> None:
    """Lifts the latents anew without some of the views, and keeps them in memory alone."""
    if pipeline.model.config.language_solver != "lift":
        raise GenLangSplatError(
            "The latents of this run were optimized, and lifting them anew would evaluate another method. Leave out "
            "--holdout-labeled, or train with --pipeline.model.language-solver lift."
        )
    pipeline.model.set_latents(*pipeline.lift(left_out=names))


def _document(
    scene: LanguageScene,
    labels: LabelSet,
    evaluation: Evaluation,
    protocols: Sequence[EvaluationProtocol],
    holdout_labeled: bool,
) -> dict[str, Any]:
    """What was measured, as JSON values."""
    first = evaluation.summary(protocols[0].name, "all")
    return {
        "protocol": protocols[0].name,
        "split": "all",
        "micro": first["micro"],
        "macro": first["macro"],
        "macro_over": "texts",
        "protocols": {
            protocol.name: {
                "rules": asdict(protocol) | {"family": protocol.family},
                **{split: evaluation.summary(protocol.name, split) for split in SPLIT_TITLES},
            }
            for protocol in protocols
        },
        "labels": {
            "kind": labels.kind,
            "folder": str(labels.folder),
            "frames": evaluation.splits,
            "in_training": [name for name, split in evaluation.splits.items() if split == "train"],
            "held_out_of_lifting": holdout_labeled,
            "no_such_view": list(evaluation.unmatched),
            "skipped": list(labels.skipped),
            "not_in_view": list(evaluation.lost),
        },
        "geometry": _geometry(scene) | {"psnr_of_labeled_views": evaluation.psnr},
        "queries": [asdict(score) for score in evaluation.scores],
    }


@torch.no_grad()
def _geometry(scene: LanguageScene) -> dict[str, float | None]:
    """Mean PSNR and SSIM of the held-out views; None without any."""
    measured = []
    for view in track(scene.views("eval"), "Rendering held-out views"):
        render, truth = scene.render_rgb(view), scene.image(view).to(scene.model.device) / 255
        pictures = (picture.permute(2, 0, 1)[None] for picture in (render, truth))
        measured.append((psnr(render, truth), float(structural_similarity(*pictures))))
    if not measured:
        return {"psnr": None, "ssim": None}
    means = np.mean(measured, axis=0).tolist()
    return {"psnr": means[0], "ssim": means[1]}


def _provenance(config_path: Path, checkpoint: Path, scene: LanguageScene) -> dict[str, Any]:
    """What one needs to know to measure the same again."""
    query = asdict(TextQuery(("unused",)))
    del query["texts"]
    return {
        "version": {"genlangsplat-ns": __version__, "torch": torch.__version__},
        "config": str(config_path),
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": file_sha256(checkpoint),
        "seeds": {"training": read_run_config(config_path).seed},
        "scene": scene_name(scene),
        "encoder": scene.encoder.identity,
        "autoencoder": asdict(scene.autoencoder_identity),
        "query": query,
        "num_gaussians": scene.model.num_points,
    }


def _page(
    document: dict[str, Any],
    scene: LanguageScene,
    labels: LabelSet,
    evaluation: Evaluation,
    protocols: Sequence[EvaluationProtocol],
    published: Sequence[PublishedScore],
    collector: CardCollector,
) -> Report:
    """The page of the evaluation."""
    micro, geometry, facts = document["micro"], document["geometry"], document["labels"]
    autoencoder = document["autoencoder"]
    held_out = "their regions had no say in the latents" if facts["held_out_of_lifting"] else "their regions had a say"
    decibels = "none" if geometry["psnr"] is None else f"{geometry['psnr']:.2f} dB, SSIM {geometry['ssim']:.3f}"
    return Report(
        title=f"{document['scene']}: texts against labels",
        summary=f"{len(evaluation.splits)} labeled views, {len(document['queries']) // len(protocols)} pairs of view "
        f"and text, scored by {', '.join(protocol.name for protocol in protocols)}.",
        encoder=describe_encoder(scene.encoder),
        figures={
            "localization": percent(micro["localization"]),
            "mean IoU": percent(micro["miou"]),
            "IoU above 0.25": percent(micro["acc_iou25"]),
        },
        facts={
            "Labels": f"{labels.folder}, laid out as {labels.kind}",
            "Training views among them": f"{', '.join(facts['in_training']) or 'none'}; {held_out}",
            "Labels without a view": ", ".join(facts["no_such_view"]) or "none",
            "Unusable labels": "; ".join((*facts["skipped"], *facts["not_in_view"])) or "none",
            "Decoder": "the scene's memory" if document["decoder"] == "memory" else "the autoencoder alone",
            "Relevancy": "of rendered and decoded pixels" if document["mode"] == "rendered" else "of Gaussians, drawn",
            "Means": "micro: all pairs of view and text; macro: texts, equally weighted",
            "Held-out pictures": decibels,
            "Autoencoder": f"{autoencoder['name']}, {autoencoder['embedding_dim']} to {autoencoder['latent_dim']}",
            "Run": f"{document['config']}, {document['checkpoint']}, SHA-256 {document['checkpoint_sha256']}",
            "Version": f"genlangsplat-ns {__version__}",
        },
        evaluation=evaluation,
        protocols=protocols,
        splits={name: title for name, title in SPLIT_TITLES.items() if evaluation.chosen(protocols[0].name, name)},
        cards=collector.cards,
        published=published,
        published_note=_published_note(labels.kind, document["scene"]),
    )


def _published_note(kind: LabelKind, scene: str) -> str:
    """How far published figures can be compared with the measured ones."""
    if not is_published_scene(kind, scene):
        return (
            "No paper reports on this scene. These means over the scenes of the data set whose labels look like these "
            "stand here for scale, and compare with nothing above."
        )
    return (
        "As printed in the named sources, none reproduced here. LangSplat and its followers train on the labeled "
        "views; compare like with like, and masks from rendered maps with those alone."
    )


def _print(
    decoders: Mapping[DecoderName, Evaluation],
    protocols: Sequence[EvaluationProtocol],
    published: Sequence[PublishedScore],
    document: dict[str, Any],
) -> None:
    """Prints the means of every protocol and split, and what papers report."""
    title = f"{document['scene']}, micro / macro means"
    means = Table("protocol", "views", "decoder", "pairs", *_MEANS, title=title)
    for protocol, split, (decoder, evaluation) in product(protocols, SPLIT_TITLES, decoders.items()):
        summary = evaluation.summary(protocol.name, split)
        if summary["pairs"]:
            cells = [
                f"{percent(summary['micro'][name])} / {percent(summary['macro'][name])}" for name in _MEANS.values()
            ]
            means.add_row(protocol.name, split, decoder, str(summary["pairs"]), *cells)
    CONSOLE.print(means)
    facts = document["labels"]
    if facts["in_training"]:
        CONSOLE.print(f"{len(facts['in_training'])} of {len(facts['frames'])} labeled views are training views.")
    for name, words in {
        "no_such_view": "labeled views are not in this scene",
        "not_in_view": "labels lie outside their view",
    }.items():
        if facts[name]:
            CONSOLE.print(f"[yellow]{len(facts[name])} {words}: {escape(', '.join(facts[name]))}[/yellow]")
    if is_published_scene(document["labels"]["kind"], document["scene"]):
        beside = Table("method", "scene", *_MEANS, "source", title="Published, not reproduced")
        for score in published:
            cells = [percent(getattr(score, name)) for name in _MEANS.values()]
            beside.add_row(f"{score.method} ({score.family})", score.scene, *cells, score.source)
        CONSOLE.print(beside)


_MEANS = {"localization": "localization", "mean IoU": "miou", "IoU > 0.25": "acc_iou25"}
"""Columns of the tables, and the names of their figures."""
