"""Asks a run for texts in its labelled views and scores the answers: shared by `evaluate`, `ns-eval` and the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from genlangsplat_ns.console import track
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.lerf_ovs import CategoryTruth, ViewLabels
from genlangsplat_ns.evaluation.metrics import (
    PROTOCOLS,
    EvaluationProtocol,
    Prediction,
    intersection_over_union,
    is_hit,
    macro_mean,
    micro_mean,
    predict,
    psnr,
)
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery, embed_query, relevancy_maps


@runtime_checkable
class NamedView(Protocol):
    """A view of a run: its file name, and `train` or `eval`."""

    name: str
    split: Any


@runtime_checkable
class IdentifiedEncoder(Protocol):
    """A text encoder that says what it is."""

    name: str
    identity: str

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns one unit vector per text."""
        ...


@runtime_checkable
class EvaluatedRun(Protocol):
    """What an evaluation needs of a trained run."""

    @property
    def encoder(self) -> IdentifiedEncoder:
        """The encoder of the run's features."""
        ...

    @property
    def autoencoder_identity(self) -> AutoencoderIdentity:
        """The autoencoder of the run's latents."""
        ...

    def views(self, split: Any) -> Sequence[Any]:
        """The views of `train`, `eval` or `all`; each has a `name` and a `split`."""
        ...

    def image(self, view: Any) -> Tensor:
        """The photograph of a view, (height, width, 3) uint8."""
        ...

    def render(self, view: Any) -> Any:
        """An object with `rgb` (height, width, 3) in 0 to 1 and `latents` (height, width, levels, latent_dim)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Turns unit latents into embeddings."""
        ...


@dataclass(frozen=True)
class TextTarget:
    """A text to ask and the labelled category it should find."""

    text: str
    category: str


@dataclass(frozen=True)
class QueryScore:
    """How one text did in one view under one protocol.

    Attributes:
        view: File name of the view.
        split: train or eval.
        text: What was asked.
        category: The labelled category it should find.
        protocol: Name of the protocol.
        level: The level or rule of the mask.
        iou: Overlap of the mask with the outline.
        hit: Whether the peak found the object.
        peak: The first peak (x, y); None for a constant map.
        score: The highest value of the raw relevancy.
    """

    view: str
    split: str
    text: str
    category: str
    protocol: str
    level: str
    iou: float
    hit: bool
    peak: tuple[int, int] | None
    score: float


@dataclass(frozen=True, eq=False)
class AnsweredText:
    """One answered text with its pictures, handed to an observer while they are at hand."""

    scores: tuple[QueryScore, ...]
    rgb: Tensor
    truth: CategoryTruth
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Evaluation:
    """The scores of a run.

    Attributes:
        scores: One per view, text and protocol.
        psnr: Peak signal-to-noise ratio of every view that was rendered, by name, in decibels.
        unmatched: Labelled views that the run does not have.
    """

    scores: tuple[QueryScore, ...]
    psnr: dict[str, float]
    unmatched: tuple[str, ...]

    def summary(self, protocol: str, split: str) -> dict[str, Any]:
        """Localisation and mean IoU over the views of a split.

        `micro` averages over all (view, text) pairs, which in LERF-OVS is the score of a scene; `macro` averages over
        the texts, each by the mean over its views. Over several scenes the literature takes the mean of the scenes'
        scores.
        """
        chosen = [score for score in self.scores if score.protocol == protocol and score.split == split]
        hits: dict[str, list[float]] = {}
        overlaps: dict[str, list[float]] = {}
        for score in chosen:
            hits.setdefault(score.text, []).append(float(score.hit))
            overlaps.setdefault(score.text, []).append(score.iou)
        if not chosen:
            return {"pairs": 0, "micro": None, "macro": None, "texts": []}
        return {
            "pairs": len(chosen),
            "micro": {"localization": micro_mean(hits), "miou": micro_mean(overlaps)},
            "macro": {"localization": macro_mean(hits), "miou": macro_mean(overlaps)},
            "texts": [
                {
                    "text": text,
                    "category": next(score.category for score in chosen if score.text == text),
                    "views": len(found),
                    "hits": int(sum(found)),
                    "localization": float(np.mean(found)),
                    "miou": float(np.mean(overlaps[text])),
                }
                for text, found in hits.items()
            ],
        }


def evaluate_views(
    run: EvaluatedRun,
    views: Iterable[Any],
    labels: Mapping[str, ViewLabels],
    targets: Sequence[TextTarget] | None = None,
    query: TextQuery | None = None,
    protocols: Sequence[EvaluationProtocol] = PROTOCOLS,
    observe: Callable[[AnsweredText], None] | None = None,
) -> Evaluation:
    """Asks every text in every labelled view that shows its category, and scores the answers.

    Args:
        run: The trained run.
        views: The views of the run to look at; those without labels are passed over.
        labels: The labels by the stem of the view's file name; outlines are scaled to the size of the rendering.
        targets: What to ask. None asks every category by its own name, as LERF-OVS does.
        query: Negatives, level rule, threshold and temperature; its texts are not used.
        protocols: The rules to score by.
        observe: Called for each view and text with the pictures, so that none need be kept.

    Raises:
        GenLangSplatError: If no view has labels, or no labelled view shows anything that is asked.
    """
    views = list(views)
    if targets is None:
        targets = [TextTarget(c, c) for c in dict.fromkeys(c for label in labels.values() for c in label.categories)]
    if not targets:
        raise GenLangSplatError("Found nothing to ask: the labels hold no object. Give labels with at least one.")
    labeled = [view for view in views if Path(view.name).stem in labels]
    if not labeled:
        raise GenLangSplatError(
            f"None of the {len(views)} views has labels. Labels are matched by file name: the labels name "
            f"{', '.join(sorted(labels)[:3])}, the views are {', '.join(view.name for view in views[:3])}."
        )
    texts = tuple(target.text for target in targets)
    query = TextQuery(texts) if query is None else replace(query, texts=texts)
    embedded = embed_query(query, run.encoder)
    scores: list[QueryScore] = []
    decibels: dict[str, float] = {}
    for view in track(labeled, "Evaluating views"):
        rendered = run.render(view)
        height, width = rendered.rgb.shape[:2]
        decibels[view.name] = psnr(rendered.rgb, run.image(view).to(rendered.rgb) / 255)
        truths = labels[Path(view.name).stem].resized(width, height)
        asked = [index for index, target in enumerate(targets) if target.category in truths.categories]
        if not asked:
            continue
        part = _select(embedded, asked)
        maps = relevancy_maps(rendered.latents, run.decode, part)
        for index, text_maps in zip(asked, maps, strict=True):
            answered = _score(view, targets[index], rendered.rgb, text_maps, truths, protocols, query)
            scores.extend(answered.scores)
            if observe is not None:
                observe(answered)
    if not scores:
        raise GenLangSplatError(
            f"None of the {len(labeled)} labelled views shows a category that was asked for: "
            f"{', '.join(dict.fromkeys(target.category for target in targets))}."
        )
    unmatched = tuple(sorted(set(labels) - {Path(view.name).stem for view in labeled}))
    return Evaluation(tuple(scores), decibels, unmatched)


def _select(embedded: EmbeddedQuery, indices: Sequence[int]) -> EmbeddedQuery:
    """The query with only some of its texts."""
    query = replace(embedded.query, texts=tuple(embedded.query.texts[index] for index in indices))
    rows = torch.tensor(list(indices), device=embedded.positives.device)
    return EmbeddedQuery(query, embedded.positives[rows], embedded.negatives)


def _score(
    view: NamedView,
    target: TextTarget,
    rgb: Tensor,
    maps: Tensor,
    labels: ViewLabels,
    protocols: Sequence[EvaluationProtocol],
    query: TextQuery,
) -> AnsweredText:
    """Scores the maps of one text in one view under every protocol."""
    truth = labels.truth(target.category)
    predictions = tuple(predict(maps, protocol, query) for protocol in protocols)
    scores = tuple(
        QueryScore(
            view=view.name,
            split=view.split,
            text=target.text,
            category=target.category,
            protocol=protocol.name,
            level=prediction.level,
            iou=intersection_over_union(prediction.mask, truth.mask),
            hit=is_hit(prediction.peaks, truth, protocol.target),
            peak=prediction.peaks[0] if prediction.peaks else None,
            score=float(maps.max()),
        )
        for protocol, prediction in zip(protocols, predictions, strict=True)
    )
    return AnsweredText(scores, rgb, truth, predictions)
