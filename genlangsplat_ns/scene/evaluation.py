"""Evaluates a trained run against labels and writes the results as JSON and as an HTML report."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import evaluate_views
from genlangsplat_ns.evaluation.label_folders import FOLDER_NAMES, LabelKind, LabelSet, read_label_set
from genlangsplat_ns.evaluation.metrics import psnr
from genlangsplat_ns.evaluation.page import percent
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
from genlangsplat_ns.evaluation.report import CardCollector, Report, describe_encoder, write_report
from genlangsplat_ns.evaluation.scores import Evaluation
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import DecoderName
from genlangsplat_ns.rasterization.ssim import kept_similarity, structural_similarity
from genlangsplat_ns.scene.labels import find_scene_labels, warp_labels
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.lifting import lift_scene
from genlangsplat_ns.scene.settings import EvaluationSettings
from genlangsplat_ns.scene_io.run_config import read_run_config
from genlangsplat_ns.utils.files import atomic_path, file_sha256
from genlangsplat_ns.utils.progress import track
from genlangsplat_ns.utils.version import __version__

LOGGER = logging.getLogger(__name__)

DEFAULT_PROTOCOLS: dict[LabelKind, tuple[EvaluationProtocol, ...]] = {
    "lerf-ovs": (LANGSPLAT_LERF, LANGSPLATV2_LERF, OCCAM_LERF, THRESHOLD, GAUSSIAN_SELECTION),
    "3d-ovs": (LANGSPLAT_3DOVS, THRESHOLD, GAUSSIAN_SELECTION),
    "masks": (LANGSPLAT_LERF, THRESHOLD, GAUSSIAN_SELECTION),
    "labelme": (LANGSPLAT_LERF, THRESHOLD, GAUSSIAN_SELECTION),
    "coco": (LANGSPLAT_LERF, THRESHOLD, GAUSSIAN_SELECTION),
}
"""Default protocols for each layout of the labels; the first one is the main protocol."""

SPLIT_TITLES = {
    "all": "All labeled views",
    "eval": "Held-out views",
    "train": "Training views: the scene was fitted to them",
}


UNCOUNTED_NOTE = "Masked and fully transparent pixels do not count."
"""A remark on figures of views with such pixels."""


@dataclass(frozen=True, eq=False)
class SceneEvaluation:
    """The results of scoring a scene against labels."""

    document: dict[str, Any]
    """Content of `evaluation.json`."""
    by_decoder: dict[DecoderName, Evaluation]
    protocols: tuple[EvaluationProtocol, ...]
    """The protocols, the main one first."""
    published: tuple[PublishedScore, ...]
    """Published scores on the data set."""


def evaluate_scene(
    scene: LanguageScene,
    output_dir: Path,
    settings: EvaluationSettings | None = None,
    decoder: DecoderName | None = None,
    compare_autoencoder: bool = False,
) -> SceneEvaluation:
    """Queries a scene for every labeled category in every labeled view, and writes `evaluation.json` and `report.html`.

    `decoder` decodes the latents that are lifted again for `holdout_labeled`, by default that of the run. With
    `compare_autoencoder`, the autoencoder as the decoder is evaluated too.

    Raises:
        GenLangSplatError: There are no labels, the labels belong to another scene, or the run's latents were optimized
            and cannot be lifted again.
    """
    settings = settings or EvaluationSettings()
    start = time.perf_counter()
    chosen = named_protocols(settings.protocol)
    labels = find_scene_labels(scene) if settings.labels is None else read_label_set(settings.labels)
    if labels is None:
        raise GenLangSplatError(
            f"There are no labels next to {scene.datamanager.config.dataparser.data}: looked for the folders "
            f"{', '.join(FOLDER_NAMES)}. Give their folder with --labels FOLDER."
        )
    chosen = chosen or DEFAULT_PROTOCOLS[labels.kind]
    views = scene.views("all")
    labeled = warp_labels(labels, scene, views)
    if settings.holdout_labeled:
        _lift_without(scene, [view.name for view, _ in labeled.pairs])
        stored = None if scene.stored is None else read_run_config(scene.stored.config_path).model.get("decoder")
        scene.model.decode_by(decoder or stored or "memory")
    collector = CardCollector()
    mode = settings.mode
    evaluation = evaluate_views(scene, views, labeled, protocols=chosen, observe=collector.observe, mode=mode)
    by_decoder = {scene.field.decoder: evaluation}
    document = _document(scene, labels, evaluation, chosen, settings.holdout_labeled)
    document |= {"mode": mode, "decoder": scene.field.decoder}
    if compare_autoencoder:
        scene.model.decode_by("autoencoder")
        by_decoder["autoencoder"] = evaluate_views(scene, views, labeled, protocols=chosen, mode=mode)
        document["decoders"] = {
            name: {protocol.name: _summaries(found, protocol) for protocol in chosen}
            for name, found in by_decoder.items()
        }
    document |= _provenance(scene) | {"seconds": round(time.perf_counter() - start, 1)}
    with atomic_path(output_dir / "evaluation.json") as path:
        path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    published = published_scores(labels.kind, scene.name)
    write_report(output_dir / "report.html", _page(document, scene, labels, evaluation, chosen, published, collector))
    LOGGER.info("Wrote %s/evaluation.json and report.html.", output_dir)
    return SceneEvaluation(document, by_decoder, tuple(chosen), tuple(published))


def _lift_without(scene: LanguageScene, names: Sequence[str]) -> None:
    """Lifts the latents again without some of the views, in memory only."""
    if scene.model.config.language_solver != "lift":
        raise GenLangSplatError(
            "The latents of this run were optimized, and lifting them again would evaluate another method. Omit "
            "--holdout-labeled, or train with --pipeline.model.language-solver lift."
        )
    scene.model.set_latents(*lift_scene(scene.model, scene.datamanager, left_out=names))


def _document(
    scene: LanguageScene,
    labels: LabelSet,
    evaluation: Evaluation,
    protocols: Sequence[EvaluationProtocol],
    holdout_labeled: bool,
) -> dict[str, Any]:
    """Returns the measurements as JSON values."""
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
                **_summaries(evaluation, protocol),
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
            "notes": list(labels.notes),
            "not_in_view": list(evaluation.lost),
            "masked_views": list(evaluation.masked),
        },
        "geometry": _geometry(scene) | {"psnr_of_labeled_views": evaluation.psnr},
        "queries": [asdict(score) for score in evaluation.scores],
    }


def _summaries(evaluation: Evaluation, protocol: EvaluationProtocol) -> dict[str, Any]:
    return {split: evaluation.summary(protocol.name, split) for split in SPLIT_TITLES}


@torch.no_grad()
def _geometry(scene: LanguageScene) -> dict[str, Any]:
    """Computes the mean PSNR and SSIM of the held-out views, None if there are none; masked pixels do not count."""
    measured, num_masked = [], 0
    for view in track(scene.views("eval"), "Rendering held-out views"):
        kept = scene.mask(view)
        if kept is not None:
            num_masked += 1
            if not bool(kept.any()):
                continue
            kept = kept.to(scene.model.device)
        render, truth = scene.render_rgb(view), scene.image(view).to(scene.model.device) / 255
        images = [image.permute(2, 0, 1)[None] for image in (render, truth)]
        similarity = structural_similarity(*images) if kept is None else kept_similarity(images[0], images[1], kept)
        measured.append((float(psnr(render, truth, kept)), float(similarity)))
    means = np.mean(measured, axis=0).tolist() if measured else [None, None]
    figures = {"psnr": means[0], "ssim": means[1]}
    return figures if num_masked == 0 else {**figures, "views_with_mask": num_masked, "note": UNCOUNTED_NOTE}


def _provenance(scene: LanguageScene) -> dict[str, Any]:
    """Returns versions, files and settings that are needed to reproduce the measurement."""
    query = asdict(TextQuery(("unused",)))
    del query["texts"]
    stored: dict[str, Any] = {}
    if scene.stored is not None:
        stored = {
            "config": str(scene.stored.config_path),
            "checkpoint": scene.stored.checkpoint.name,
            "checkpoint_sha256": file_sha256(scene.stored.checkpoint),
            "seeds": {"training": read_run_config(scene.stored.config_path).seed},
        }
    return {
        "version": {"genlangsplat-ns": __version__, "torch": torch.__version__},
        **stored,
        "scene": scene.name,
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
    """Builds the HTML report of the evaluation."""
    micro, geometry, facts = document["micro"], document["geometry"], document["labels"]
    autoencoder = document["autoencoder"]
    held_out = "not lifted from" if facts["held_out_of_lifting"] else "the latents were lifted from them"
    decibels = "none" if geometry["psnr"] is None else f"{geometry['psnr']:.2f} dB, SSIM {geometry['ssim']:.3f}"
    if "note" in geometry:
        decibels += f". {geometry['note']}"
    run = "{config}, {checkpoint}, SHA-256 {checkpoint_sha256}".format_map(document) if scene.stored else "not stored"
    splatted = document["mode"] == "gaussian"
    return Report(
        title=f"{document['scene']}: texts against labels",
        summary=f"{len(evaluation.splits)} labeled views, {len(document['queries']) // len(protocols)} pairs of view "
        f"and text, scored by {', '.join(protocol.name for protocol in protocols)}."
        + (f" {UNCOUNTED_NOTE}" if evaluation.masked else ""),
        encoder=describe_encoder(scene.encoder),
        figures={
            "localization": percent(micro["localization"]),
            "mean IoU": percent(micro["miou"]),
            "IoU above 0.25": percent(micro["acc_iou25"]),
        },
        facts={
            "Labels": f"{labels.folder}, in the layout {labels.kind}",
            "Labeled training views": f"{', '.join(facts['in_training']) or 'none'}; {held_out}",
            "Labels without a view": ", ".join(facts["no_such_view"]) or "none",
            "Unusable labels": "; ".join((*facts["skipped"], *facts["not_in_view"])) or "none",
            "Notes on the labels": "; ".join(facts["notes"]) or "none",
            "Decoder": "the scene memory" if document["decoder"] == "memory" else "the autoencoder alone",
            "Relevancy": "splatted Gaussian scores" if splatted else "rendered and decoded pixels",
            "Means": "micro: over all pairs of view and text; macro: over texts, equally weighted",
            "Held-out views": decibels,
            "Autoencoder": f"{autoencoder['name']}, {autoencoder['embedding_dim']} to {autoencoder['latent_dim']}",
            "Run": run,
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
    """Explains how published figures compare with the measured ones."""
    if not is_published_scene(kind, scene):
        return (
            "No paper reports results on this scene. These means over the scenes of a data set with the same label "
            "layout only show the order of magnitude and cannot be compared with the results above."
        )
    return (
        "Values as printed in the cited sources, not reproduced here. LangSplat and its successors train on the "
        "labeled views. Compare only equal protocols, and masks from rendered maps only with each other."
    )
