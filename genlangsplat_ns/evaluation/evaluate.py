"""Asks a run for texts in its labeled views and scores the answers: shared by `evaluate`, `ns-eval` and the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.labels import CategoryTruth, ViewLabels
from genlangsplat_ns.evaluation.matching import MatchedViews, match_views
from genlangsplat_ns.evaluation.metrics import intersection_over_union, is_hit, psnr
from genlangsplat_ns.evaluation.prediction import Prediction, predict
from genlangsplat_ns.evaluation.protocols import (
    LANGSPLAT_LERF,
    THRESHOLD,
    EvaluationProtocol,
    RenderedProtocol,
    SelectionProtocol,
)
from genlangsplat_ns.evaluation.scores import Evaluation, QueryScore
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.field import GaussianAnswer, LanguageField
from genlangsplat_ns.language.pixel_scores import relevancy_maps, relevancy_of_zero
from genlangsplat_ns.language.query import EmbeddedQuery, TextEncoder, TextQuery, embed_query
from genlangsplat_ns.language.settings import QueryMode, SelectionSettings
from genlangsplat_ns.utils.progress import track


@runtime_checkable
class IdentifiedEncoder(TextEncoder, Protocol):
    """A text encoder that says what it is."""

    name: str
    identity: str


@runtime_checkable
class EvaluatedRun(Protocol):
    """What an evaluation needs of a trained run."""

    @property
    def encoder(self) -> IdentifiedEncoder:
        """The encoder of the run's features."""

    @property
    def autoencoder_identity(self) -> AutoencoderIdentity:
        """The autoencoder of the run's latents."""

    def views(self, split: Any) -> Sequence[Any]:
        """The views of `train`, `eval` or `all`; each has a `name` and a `split`."""

    def image(self, view: Any) -> Tensor:
        """The photograph of a view, (height, width, 3) uint8."""

    def mask(self, view: Any) -> Tensor | None:
        """The pixels of the photograph that count, (height, width) bool; None for all."""

    def render(self, view: Any) -> Any:
        """An object with `rgb` (height, width, 3) in 0 to 1 and `latents` (height, width, levels, latent_dim)."""

    def decode(self, latents: Tensor) -> Tensor:
        """Turns unit latents into embeddings."""


@runtime_checkable
class SelectableRun(EvaluatedRun, Protocol):
    """A run whose Gaussians can be scored and selected."""

    @property
    def field(self) -> LanguageField:
        """Everything that can be asked of the Gaussians."""

    def render_opacity(self, view: Any, selected: Tensor) -> Tensor:
        """Opacity (height, width) of a view that shows only the selected Gaussians."""

    def render_rgb(self, view: Any) -> Tensor:
        """The colors of a view alone, (height, width, 3) in 0 to 1."""

    def render_scores(self, view: Any, scores: Tensor) -> Tensor:
        """Scores (num_gaussians, channels) drawn over the opacity of the Gaussians whose score is not exactly 0.

        The result is (height, width, channels), exactly 0 where none of these is shown.
        """


@dataclass(frozen=True)
class TextTarget:
    """A text to ask and the labeled category it should find."""

    text: str
    category: str


@dataclass(frozen=True, eq=False)
class AnsweredText:
    """One answered text with its pictures, handed to an observer while they are at hand."""

    scores: tuple[QueryScore, ...]
    rgb: Tensor
    truth: CategoryTruth
    predictions: tuple[Prediction, ...]


def evaluate_views(
    run: EvaluatedRun,
    views: Iterable[Any],
    labels: Mapping[str, ViewLabels] | MatchedViews,
    targets: Sequence[TextTarget] | None = None,
    query: TextQuery | None = None,
    protocols: Sequence[EvaluationProtocol] = (THRESHOLD, LANGSPLAT_LERF),
    observe: Callable[[AnsweredText], None] | None = None,
    mode: QueryMode = "rendered",
) -> Evaluation:
    """Asks every text in every labeled view that shows its category, and scores the answers.

    Every view is rendered and decoded once for all its texts, and nothing of it is kept. Pixels of the view's mask do
    not count: they have no content, and are neither predicted nor labeled.

    Args:
        views: The views of the run to look at; those without labels are ignored.
        labels: The labels by the path or the stem of the view's photograph, or those matched to views already, which
            replace `views`; they are scaled to the size of the rendering.
        targets: What to ask. None asks every category by its own name, as LERF-OVS does.
        query: Negatives, level rule, threshold and temperature; its texts are not used.
        observe: Called for each view and text with the pictures, so that none need be kept.
        mode: Where the maps of rendered protocols come from: `rendered` decodes and scores every pixel, as the papers
            do; `gaussian` decodes the Gaussians once for all views and draws their scores.

    Raises:
        GenLangSplatError: If no view has labels, no labeled view shows anything that is asked, or a protocol wants
            Gaussians of a run that has none, as the mode `gaussian` does.
    """
    views = list(views)
    matched = labels if isinstance(labels, MatchedViews) else match_views(views, labels)
    if targets is None:
        shown = list(labels.values()) if isinstance(labels, Mapping) else [found for _, found in matched.pairs]
        targets = [TextTarget(c, c) for c in dict.fromkeys(c for label in shown for c in label.categories)]
    if not targets and (matched.pairs or not matched.unmatched):
        raise GenLangSplatError("Found nothing to ask: the labels hold no object. Give labels with at least one.")
    if not matched.pairs:
        raise GenLangSplatError(
            f"None of the {len(views)} views has labels. Labels are matched by file name: the labels name "
            f"{', '.join(matched.unmatched[:3])}, the views are {', '.join(view.name for view in views[:3])}. Give the "
            "labels of this scene."
        )
    texts = tuple(target.text for target in targets)
    query = TextQuery(texts) if query is None else replace(query, texts=texts)
    asker = _Asker(run, embed_query(query, run.encoder), protocols, mode)
    scores: list[QueryScore] = []
    lost: list[str] = []
    masked: list[str] = []
    decibels: dict[str, float] = {}
    for view, view_labels in track(matched.pairs, "Evaluating views"):
        rgb, latents = asker.render(view)
        height, width = rgb.shape[:2]
        kept = run.mask(view)
        if kept is not None:
            kept = kept.to(rgb.device)
            masked.append(view.name)
        if kept is None or bool(kept.any()):
            decibels[view.name] = float(psnr(rgb, run.image(view).to(rgb) / 255, kept))
        resized = view_labels.resized(width, height)
        truths = {category: resized.truth(category).within(kept) for category in resized.categories}
        asked = []
        for index, target in enumerate(targets):
            if target.category in truths and truths[target.category].mask.any():
                asked.append(index)
            elif target.category in truths:
                lost.append(f"{view.name}: {target.text}")
        for index, predictions in asker.ask(view, latents, asked, kept):
            truth = truths[targets[index].category]
            answered = _score(view, targets[index], rgb, truth, protocols, predictions)
            scores.extend(answered.scores)
            if observe is not None:
                observe(answered)
    if not scores:
        raise GenLangSplatError(
            f"None of the {len(matched.pairs)} labeled views shows a category that was asked for: "
            f"{', '.join(dict.fromkeys(target.category for target in targets))}. Ask for categories of the labels."
        )
    splits = {view.name: str(view.split) for view, _ in matched.pairs}
    return Evaluation(tuple(scores), decibels, splits, matched.unmatched, tuple(lost), tuple(masked))


def select_by_protocol(field: LanguageField, query: EmbeddedQuery, protocol: SelectionProtocol) -> list[GaussianAnswer]:
    """Selects Gaussians for every text of a query by the rules of a protocol.

    The level is the one with the highest relevancy of any Gaussian. There is neither an opacity floor nor a clean-up.
    """
    rules = replace(query.query, level="auto", threshold=protocol.threshold)
    settings = SelectionSettings(min_opacity=0.0, clean_up=False)
    return field.find(replace(query, query=rules), settings, peak_opacity=0.0)


class _Asker:
    """Answers texts in views under several protocols, from one decoding of a view and one selection of Gaussians."""

    def __init__(
        self, run: EvaluatedRun, query: EmbeddedQuery, protocols: Sequence[EvaluationProtocol], mode: QueryMode
    ) -> None:
        self.run, self.query, self.protocols, self.mode = run, query, protocols, mode
        selecting = [protocol for protocol in protocols if isinstance(protocol, SelectionProtocol)]
        if (selecting or mode == "gaussian") and not isinstance(run, SelectableRun):
            raise GenLangSplatError(
                f"{type(run).__name__} does not give its Gaussians. Take the mode rendered and no protocol that "
                "selects Gaussians."
            )
        # Asked only in the cases that were just checked.
        self.gaussians = cast(SelectableRun, run)
        self.selections = {
            protocol.name: select_by_protocol(self.gaussians.field, query, protocol) for protocol in selecting
        }
        self.decoded_zero: list[float] = []

    def render(self, view: Any) -> tuple[Tensor, Tensor | None]:
        """Colors of a view, and latents where its pixels are decoded."""
        if self.mode == "gaussian":
            return self.gaussians.render_rgb(view), None
        rendered = self.run.render(view)
        return rendered.rgb, rendered.latents

    def ask(
        self, view: Any, latents: Tensor | None, asked: Sequence[int], kept: Bool[Tensor, "height width"] | None
    ) -> Iterator[tuple[int, tuple[Prediction, ...]]]:
        """Yields the number of a text and its prediction under each protocol, for the texts with these numbers.

        Pixels that are not `kept` (None keeps all) have no content and are not predicted.
        """
        if not asked:
            return
        maps = torch.zeros(len(asked), 0)
        if any(isinstance(protocol, RenderedProtocol) for protocol in self.protocols):
            maps = self._maps(view, latents, self.query.subset(asked))
            maps = maps if kept is None else maps * kept
        for index, text_maps in zip(asked, maps, strict=True):
            predictions = (self._predict(view, index, text_maps, protocol) for protocol in self.protocols)
            yield index, tuple(found.within(kept) for found in predictions)

    def _maps(self, view: Any, latents: Tensor | None, query: EmbeddedQuery) -> Tensor:
        """Relevancy of a view by the mode, (num_texts, levels, height, width)."""
        if not self.decoded_zero:
            example = self.gaussians.field.latents if latents is None else latents
            self.decoded_zero = relevancy_of_zero(example, self.run.decode, self.query).tolist()
        if latents is not None:
            return relevancy_maps(latents, self.run.decode, query)
        scores = self.gaussians.field.level_scores(query)
        drawn = self.gaussians.render_scores(view, scores.flatten(start_dim=1))
        return drawn.reshape(*drawn.shape[:2], *scores.shape[1:]).permute(3, 2, 0, 1)

    def _predict(self, view: Any, index: int, maps: Tensor, protocol: EvaluationProtocol) -> Prediction:
        if isinstance(protocol, RenderedProtocol):
            return predict(maps, protocol, self.query.query, self.decoded_zero[index])
        found = self.selections[protocol.name][index]
        opacity = self.gaussians.render_opacity(view, found.selection.keep).cpu().numpy()
        return Prediction(found.level, found.score, opacity, opacity > protocol.opacity, None)


def _score(
    view: Any,
    target: TextTarget,
    rgb: Tensor,
    truth: CategoryTruth,
    protocols: Sequence[EvaluationProtocol],
    predictions: tuple[Prediction, ...],
) -> AnsweredText:
    """Scores what every protocol read from one text in one view."""
    scores = tuple(
        QueryScore(
            view=view.name,
            split=view.split,
            text=target.text,
            category=target.category,
            protocol=protocol.name,
            level=prediction.level,
            iou=intersection_over_union(prediction.mask, truth.mask),
            hit=is_hit(prediction.peaks, truth, protocol.target)
            if isinstance(protocol, RenderedProtocol) and prediction.peaks is not None
            else None,
            peak=prediction.peaks[0] if prediction.peaks else None,
            score=prediction.score,
        )
        for protocol, prediction in zip(protocols, predictions, strict=True)
    )
    return AnsweredText(scores, rgb, truth, predictions)
