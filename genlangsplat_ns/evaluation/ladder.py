"""A sanity ladder: the truth itself is pushed along the road of a run, one piece of the road at a time.

What the labels say is painted as text embeddings, so that every rung ought to score near one. Where a rung falls, the
piece of the road between it and the one before is broken. Texts that are asked for another object ought to find nothing
on any rung, or the scores mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import EvaluatedRun, IdentifiedEncoder, TextTarget, evaluate_views
from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.evaluation.protocols import EvaluationProtocol
from genlangsplat_ns.evaluation.scores import QueryScore, means
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.levels import LEVELS

LARGEST_FALL = 0.1
"""A mean IoU or localization that falls further than this from one rung to the next shows a broken piece."""


def paint_labels(
    labels: ViewLabels, categories: Sequence[str], width: int, height: int
) -> Int32[Tensor, "height width"]:
    """Index of the category of every pixel, and one past the last where nothing is labeled.

    Where objects overlap, the smaller one is seen: a label does not say what lies in front.
    """
    resized = labels.resized(width, height)
    owners = torch.full((height, width), len(categories), dtype=torch.int32)
    masks = {name: resized.truth(name).mask for name in resized.categories if name in categories}
    for name in sorted(masks, key=lambda name: -int(masks[name].sum())):
        owners[torch.from_numpy(masks[name])] = categories.index(name)
    return owners


class PaintedRun:
    """A run whose pixels carry what their labels say, at all levels alike.

    Args:
        run: The run whose pictures and views these are.
        labels: The labels by the stem of the view's file name; every view that is rendered must have some.
        categories: What can be told apart.
        vectors: What is painted, a row per category and behind them one for everything else; embeddings, or latents.
        decode: Turns these into embeddings.
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
                f"Found {len(vectors)} vectors for {len(categories)} categories; expected one each, and one for the "
                "rest of the picture."
            )
        self._run, self._labels, self._categories = run, labels, tuple(categories)
        self._vectors, self.decode = vectors, decode

    @property
    def encoder(self) -> IdentifiedEncoder:
        """The encoder of the run."""
        return self._run.encoder

    @property
    def autoencoder_identity(self) -> AutoencoderIdentity:
        """The autoencoder of the run, whether or not this rung goes through it."""
        return self._run.autoencoder_identity

    def views(self, split: Any) -> Sequence[Any]:
        """The views of the run."""
        return self._run.views(split)

    def image(self, view: Any) -> Tensor:
        """The photograph of a view."""
        return self._run.image(view)

    def render(self, view: Any) -> Any:
        """The photograph, and what its labels say."""
        rgb = self.image(view).float() / 255
        owners = paint_labels(self._labels[Path(view.name).stem], self._categories, rgb.shape[1], rgb.shape[0])
        latents = self._vectors[owners.long()]
        return SimpleNamespace(rgb=rgb, latents=latents[:, :, None].expand(-1, -1, len(LEVELS), -1))


@dataclass(frozen=True)
class Rung:
    """What a piece of the road leaves.

    Attributes:
        name: The last piece that was gone through.
        localization: Share of peaks on the object; None under a protocol without peaks.
        miou: Mean IoU.
        shuffled_localization: The same with the texts of other objects, over all seeds.
        shuffled_miou: The mean IoU with these.
    """

    name: str
    localization: float | None
    miou: float
    shuffled_localization: float | None
    shuffled_miou: float


def climb(
    rungs: Mapping[str, EvaluatedRun],
    views: Sequence[Any],
    labels: Mapping[str, ViewLabels],
    targets: Sequence[TextTarget],
    query: TextQuery,
    protocol: EvaluationProtocol,
    seeds: Sequence[int] = (0, 1, 2),
) -> list[Rung]:
    """Scores every rung, with the texts as they belong and with those of other objects.

    Args:
        rungs: The runs from the bottom of the ladder up, each of which goes through one more piece of the road.
        views: The views to ask in.
        labels: Their labels.
        targets: What to ask.
        query: Negatives, level rule, threshold and temperature.
        protocol: The rules to score by.
        seeds: A shuffle each.
    """
    own = {(target.text, target.category) for target in targets}
    others = [target for seed in seeds for target in shuffled(targets, seed)]
    ladder = []
    for name, run in rungs.items():
        # All texts pass through one evaluation, because decoding the views costs more than scoring.
        evaluation = evaluate_views(run, views, labels, [*targets, *others], query, (protocol,))
        right: dict[str, list[QueryScore]] = {"": [], "shuffled": []}
        for score in evaluation.scores:
            right["" if (score.text, score.category) in own else "shuffled"].append(score)
        found, mistaken = (means({name: scores})["micro"] for name, scores in right.items())
        ladder.append(Rung(name, found["localization"], found["miou"], mistaken["localization"], mistaken["miou"]))
    return ladder


def shuffled(targets: Sequence[TextTarget], seed: int) -> list[TextTarget]:
    """The targets with the text of another object each.

    Raises:
        GenLangSplatError: If there are not two objects.
    """
    if len({target.category for target in targets}) < 2:
        raise GenLangSplatError("Texts can be shuffled between two objects or more; label another one.")
    order = np.random.default_rng(seed).permutation(len(targets))
    # Everybody gets the text of the next one in a random round.
    texts = {int(order[place - 1]): targets[int(order[place])].text for place in range(len(order))}
    return [TextTarget(texts[index], target.category) for index, target in enumerate(targets)]


def broken_rungs(ladder: Sequence[Rung], largest_fall: float = LARGEST_FALL) -> list[str]:
    """The rungs that are far below the one before, or below one where none is before."""
    broken = []
    before = (1.0, 1.0)
    for rung in ladder:
        now = (1.0 if rung.localization is None else rung.localization, rung.miou)
        if any(above - below > largest_fall for above, below in zip(before, now, strict=True)):
            broken.append(rung.name)
        before = now
    return broken
