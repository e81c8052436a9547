"""Pushes the ground truth through the pipeline stage by stage, to find the stage that loses accuracy.

The labels are rendered as text embeddings, so every stage should score close to 1. If a stage scores much lower than
the one before it, that stage is broken. Texts shuffled between objects should find nothing at any stage; otherwise the
scores mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import EvaluatedRun, IdentifiedEncoder, TextTarget, evaluate_views
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.evaluation.matching import match_views
from genlangsplat_ns.evaluation.protocols import EvaluationProtocol
from genlangsplat_ns.evaluation.scores import QueryScore, means
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.levels import LEVELS

MAX_DROP = 0.1
"""A stage fails when its mean IoU or localization is lower than the previous stage's by more than this."""


def category_map(
    labels: ViewLabels, categories: Sequence[str], width: int, height: int
) -> Int32[Tensor, "height width"]:
    """Index of the category of every pixel; `len(categories)` where nothing is labeled.

    Where objects overlap, the smaller one wins, because labels do not say which object is in front.
    """
    resized = labels.resized(width, height)
    indices = torch.full((height, width), len(categories), dtype=torch.int32)
    masks = {name: resized.truth(name).mask for name in resized.categories if name in categories}
    for name in sorted(masks, key=lambda name: -int(masks[name].sum())):
        indices[torch.from_numpy(masks[name])] = categories.index(name)
    return indices


class GroundTruthRun:
    """A run whose pixels hold the vectors of their labels, the same at all levels.

    Args:
        run: The run that provides the views and photographs.
        labels: The labels by the stem of the view's file name. Every rendered view needs labels.
        categories: The categories that are rendered.
        vectors: One row per category and a last row for everything else: embeddings or latents.
        decode: Turns the vectors into embeddings.
    """

    def __init__(
        self,
        run: EvaluatedRun,
        labels: Mapping[str, ViewLabels],
        categories: Sequence[str],
        vectors: Float[Tensor, "num_vectors dim"],
        decode: Callable[[Tensor], Tensor],
    ) -> None:
        if len(vectors) != len(categories) + 1:
            raise GenLangSplatError(
                f"Found {len(vectors)} vectors for {len(categories)} categories; expected one per category and one for "
                "the rest of the image. Add the missing vectors."
            )
        self._run, self._categories = run, tuple(categories)
        self._labels = {view.name: found for view, found in match_views(run.views("all"), labels).pairs}
        self._vectors, self.decode = vectors, decode

    @property
    def encoder(self) -> IdentifiedEncoder:
        """The encoder of the run."""
        return self._run.encoder

    @property
    def autoencoder_identity(self) -> AutoencoderIdentity:
        """The autoencoder of the run, whether or not this stage uses it."""
        return self._run.autoencoder_identity

    def views(self, split: Any) -> Sequence[Any]:
        """The views of the run."""
        return self._run.views(split)

    def image(self, view: Any) -> Tensor:
        """The photograph of a view."""
        return self._run.image(view)

    def mask(self, view: Any) -> None:
        """All pixels count."""

    def render(self, view: Any) -> Any:
        """The photograph, and the vectors of the labels."""
        rgb = self.image(view).float() / 255
        indices = category_map(self._labels[view.name], self._categories, rgb.shape[1], rgb.shape[0])
        latents = self._vectors[indices.long()]
        return SimpleNamespace(rgb=rgb, latents=latents[:, :, None].expand(-1, -1, len(LEVELS), -1))


@dataclass(frozen=True)
class Stage:
    """The scores after one stage of the pipeline.

    Attributes:
        name: Name of the stage.
        localization: Share of peaks on the object; None under a protocol without peaks.
        miou: Mean IoU.
        shuffled_localization: Localization with the texts shuffled between objects, over all seeds.
        shuffled_miou: Mean IoU with the shuffled texts.
    """

    name: str
    localization: float | None
    miou: float
    shuffled_localization: float | None
    shuffled_miou: float


def run_stages(
    runs: Mapping[str, EvaluatedRun],
    views: Sequence[Any],
    labels: Mapping[str, ViewLabels],
    targets: Sequence[TextTarget],
    query: TextQuery,
    protocol: EvaluationProtocol,
    seeds: Sequence[int] = (0, 1, 2),
) -> list[Stage]:
    """Scores every stage, with the correct texts and with shuffled ones.

    Args:
        runs: One run per stage, in order. Each run includes one more stage of the pipeline than the one before.
        views: The views to query.
        labels: The labels of the views.
        targets: The texts and the categories they should find.
        query: Negatives, level rule, threshold and temperature.
        protocol: The rules to score by.
        seeds: One shuffle per seed.
    """
    correct = {(target.text, target.category) for target in targets}
    shuffled = [target for seed in seeds for target in shuffle_texts(targets, seed)]
    stages = []
    for name, run in runs.items():
        # One evaluation scores all texts, because decoding the views costs more than scoring.
        evaluation = evaluate_views(run, views, labels, [*targets, *shuffled], query, (protocol,))
        groups: dict[str, list[QueryScore]] = {"correct": [], "shuffled": []}
        for score in evaluation.scores:
            groups["correct" if (score.text, score.category) in correct else "shuffled"].append(score)
        own, other = (means({group: scores})["micro"] for group, scores in groups.items())
        stages.append(Stage(name, own["localization"], own["miou"], other["localization"], other["miou"]))
    return stages


def shuffle_texts(targets: Sequence[TextTarget], seed: int) -> list[TextTarget]:
    """Gives every target the text of another target.

    Raises:
        GenLangSplatError: If there are fewer than two categories.
    """
    if len({target.category for target in targets}) < 2:
        raise GenLangSplatError("Texts can only be shuffled between at least two objects. Label another object.")
    order = np.random.default_rng(seed).permutation(len(targets))
    # A single random cycle, so that no target keeps its own text.
    texts = {int(order[place - 1]): targets[int(order[place])].text for place in range(len(order))}
    return [TextTarget(texts[index], target.category) for index, target in enumerate(targets)]


def failing_stages(stages: Sequence[Stage], max_drop: float = MAX_DROP) -> list[str]:
    """Names of the stages that score much lower than the one before; the first is compared with perfect scores."""
    failing = []
    before = (1.0, 1.0)
    for stage in stages:
        now = (1.0 if stage.localization is None else stage.localization, stage.miou)
        if any(previous - current > max_drop for previous, current in zip(before, now, strict=True)):
            failing.append(stage.name)
        before = now
    return failing
