"""Lifts composed scenes: latents with the scene memory, or the embeddings themselves as a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.evaluation.evaluate import TextTarget, evaluate_views
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF
from genlangsplat_ns.features.store import ViewFeatures
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.memory import MemoryDecoder, SceneMemory
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import DEFAULT_TEMPERATURE, QueryMode
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.average import LatentMean, LiftedLatents
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions
from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.lifting.robust import RobustLift, SampleFit, lift_latents, max_view_visits
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.lifting.view_jobs import Job, LocalRunner, sum_latents
from genlangsplat_ns.utils.progress import progress_bar
from support.benchmark import Row
from support.composed_autoencoders import ForeignVectors, foreign_vectors
from support.composed_objects import read_words
from support.composed_run import ENCODER, THING, FieldRun, SplattedRun, WordTable, labels_of
from support.composed_scene import ComposedScene, RegionSettings, compose, region_features, source_vectors
from support.language_scene import composite_all
from support.stage_check import GroundTruthRun, run_stages
from support.timing import Stopwatch

SIZE = {"num_objects": 8, "num_views": 24, "width": 216, "height": 144, "max_gaussians": 4000}
PROTOCOL = replace(LANGSPLAT_LERF, name="langsplat-lerf, filters scaled", kernel=7, smoothing=3)
"""LangSplat's images are four to five times as wide."""

DIRTY = RegionSettings(mislabeled=0.05, merged=0.1, split=0.1, missing=0.1, boundary_shift=1.0)
"""Regions with the errors of a mask model."""

UNCOMPRESSED = AutoencoderIdentity("none", ENCODER, 512, 512)


class Code(Protocol):
    """Encodes embeddings to latents, and decodes latents."""

    identity: AutoencoderIdentity

    def encode(self, embeddings: Tensor) -> Tensor:
        """Unit latents of embeddings."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Unit embeddings of latents."""
        ...


class NoCode:
    """Uses the embeddings as latents."""

    identity = UNCOMPRESSED

    def encode(self, embeddings: Tensor) -> Tensor:
        """Returns the embeddings."""
        return embeddings

    def decode(self, latents: Tensor) -> Tensor:
        """Returns the normalized latents."""
        return F.normalize(latents, dim=-1)


@dataclass(frozen=True, eq=False)
class LiftedScene:
    """A lifted composed scene with the memory fitted to it.

    Attributes:
        setup: The scene.
        code: The autoencoder of the latents.
        lifted: The latents of the Gaussians.
        memory: The memory that decodes them; None if it was not requested.
        costs: Wall and processor seconds of lifting and of the memory.
    """

    setup: SceneSetup
    code: Code
    lifted: LiftedLatents
    memory: SceneMemory | None
    costs: dict[str, float]

    @property
    def decoders(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The available decoders."""
        own = {"autoencoder": self.code.decode}
        return own if self.memory is None else {**own, "memory": MemoryDecoder(self.memory, self.code.decode)}

    def run(self, decoder: str) -> SplattedRun:
        """The scene as a run that can be queried."""
        setup = self.setup
        return SplattedRun.of(
            *(setup.scene, setup.encoder, self.lifted.latents, setup.weights),
            *(self.decoders[decoder], self.code.identity),
        )


class SceneSetup:
    """Data shared by all measurements of one scene."""

    def __init__(self, data: Path, seed: int, foreign: ForeignVectors | None = None, repeated: int = 0) -> None:
        self.scene: ComposedScene = compose(data, seed, **SIZE, repeated=repeated)
        self.foreign = foreign or foreign_vectors(data, self.scene)
        self.encoder = WordTable(*read_words(data), self.foreign.words)
        self.weights = composite_all(self.scene)
        self.labels = labels_of(self.scene)
        self.targets = [TextTarget(name, name) for name in self.scene.objects]
        self.features = lru_cache(maxsize=4)(self._features)

    def _features(self, settings: RegionSettings) -> tuple[ViewFeatures, ...]:
        """Regions and embeddings of all views."""
        return tuple(region_features(self.scene, index, settings) for index in range(len(self.scene.views)))

    @torch.no_grad()
    def views(self, code: Code, settings: RegionSettings, split: str = "train") -> list[RegionView]:
        """The views of a split with their embeddings, as input of lifting."""
        features = self.features(settings)
        return [
            RegionView(
                self.weights[index],
                features[index].regions,
                code.encode(features[index].embeddings),
                embeddings=features[index].embeddings,
            )
            for index in self.scene.split(split)
        ]

    @torch.no_grad()
    def lift(
        self,
        code: Code,
        settings: RegionSettings = DIRTY,
        lift: LiftSettings | None = None,
        remember: bool = True,
        full_strength: bool = False,
    ) -> LiftedScene:
        """Lifts the latents of the training views and fits the memory to their regions.

        Args:
            code: The autoencoder.
            settings: Properties of the regions.
            lift: Lifting settings; None for the defaults.
            remember: Whether to fit a memory.
            full_strength: Whether embeddings are lifted with full strength in any case, see `FullStrengthLift`.
        """
        views, shape, lift = (
            self.views(code, settings),
            (len(self.scene.gaussians.means), len(LEVELS)),
            lift or LiftSettings(),
        )
        lifting, remembering = Stopwatch(), Stopwatch()
        with lifting:
            if isinstance(code, NoCode):
                kind = FullStrengthLift if full_strength else RobustLift
                lifted = lift_embeddings(views, *shape, lift, remember, kind)
            else:
                lifted = lift_latents(views, *shape, code.identity.latent_dim, lift, with_consensus=remember)
        memory = None
        if lifted.region_consensus is not None:
            with remembering:
                regions = MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights)
                memory = fit_memory(regions, ENCODER)
        costs: dict[str, float] = {
            f"{name}{kind}_seconds": getattr(watch, time) / 1e3
            for name, watch in (("lift", lifting), ("memory", remembering))
            for kind, time in (("", "wall"), ("_processor", "processor"))
        }
        if memory is not None:
            size = sum(part.nbytes for part in memory.buffers()) / 1e6
            costs |= {"keys": len(memory), "concentration": float(memory.concentration), "memory_mb": size}
        return LiftedScene(self, code, lifted, memory, costs)

    def ask(
        self,
        run: FieldRun,
        shuffled: bool = False,
        temperature: float = DEFAULT_TEMPERATURE,
        mode: QueryMode = "rendered",
    ) -> Row:
        """Scores the words of the scene in held-out views, by LangSplat's rules and with one negative."""
        query = TextQuery(("unused",), negatives=(THING,), temperature=temperature)
        if shuffled:
            (stage,) = run_stages({"": run}, run.views("eval"), self.labels, self.targets, query, PROTOCOL)
            return {key: value for key, value in asdict(stage).items() if key != "name"}
        evaluation = evaluate_views(run, run.views("eval"), self.labels, self.targets, query, (PROTOCOL,), mode=mode)
        micro = evaluation.summary(PROTOCOL.name, "eval")["micro"]
        return {key: micro[key] for key in ("localization", "miou")}

    def upper_bounds(self) -> dict[str, FieldRun | GroundTruthRun]:
        """Runs without loss, as upper bounds: text embeddings in the true pixels, and the noiseless image vectors."""
        blank = FieldRun(self.scene, self.encoder, self._painted_sources, lambda rows: rows, UNCOMPRESSED)
        texts = torch.cat([self.scene.texts, self.encoder.encode_texts([THING])])
        painted = GroundTruthRun(blank, self.labels, self.scene.objects, texts, lambda rows: rows)
        return {"texts, painted": painted, "image vectors, painted": blank}

    def sources(self, index: int) -> Tensor:
        """Index of the object in each pixel, or the number of objects plus the index of the patch; -1 for none."""
        labels, patches = self.scene.labels[index].long(), self.scene.patches[index].long()
        return torch.where(labels >= 0, labels, torch.where(patches >= 0, patches + len(self.scene.objects), -1))

    def _painted_sources(self, index: int) -> Tensor:
        vectors = torch.cat([source_vectors(self.scene, RegionSettings()), torch.zeros(1, 512)])
        return vectors[self.sources(index)][:, :, None].expand(-1, -1, len(LEVELS), -1)


def lift_embeddings(
    views: list[RegionView],
    num_gaussians: int,
    levels: int,
    settings: LiftSettings,
    remember: bool,
    kind: type[RobustLift] = RobustLift,
) -> LiftedLatents:
    """`lift_latents` for embeddings: faster, with the same result up to rounding."""
    shape = num_gaussians, levels, views[0].latents.shape[1]
    total = max_view_visits(len(views), settings.robust_rounds)
    with progress_bar("Lifting embeddings", total) as bar:
        lifted = kind(WideRunner(views, views, "cpu", bar), shape, settings, remember).lift()
        bar.move_to(total)
    return lifted


class FullStrengthLift(RobustLift):
    """Robust lifting with full strength, without cross-validation."""

    def first_round(self, parts: list[Sequence[int]]) -> SampleFit:
        """Takes the halves of the sample as one part, which is not cross-validated."""
        return super().first_round([[number for part in parts for number in part]])


class WideRunner(LocalRunner):
    """Runs jobs on views whose latents are wide.

    The latent that views give a Gaussian is a mean of the latents of their regions. So the shares of the regions are
    computed once, and each sum over views is one matrix product.
    """

    def run(
        self, job: Job[Any], numbers: Sequence[int], shared: Any, per_view: PerView, small: bool, summed: bool
    ) -> JobResult[Any]:
        """Runs a job."""
        if job is not sum_latents:
            return super().run(job, numbers, shared, per_view, small, summed)
        average = LatentMean(*shared)
        if per_view is None:
            per_view = [torch.ones(len(self.views[number].latents)) for number in numbers]
        for level, shares in enumerate(self._shares):
            values = []
            for number, weights in zip(numbers, per_view, strict=True):
                rows = shares[number][1]
                latents = torch.cat([self.views[number].latents[rows], torch.ones(len(rows), 1)], dim=1)
                values.append(latents * weights[rows, None])
            average.sums[:, level] = torch.cat([shares[number][0] for number in numbers], dim=1) @ torch.cat(values)
        return [torch.zeros(0)] * len(numbers), average.sums

    @cached_property
    def _shares(self) -> list[list[tuple[Float[Tensor, "num_gaussians num_regions"], Tensor]]]:
        """For every level and view: the weights of the Gaussians in its regions, and the indices of these regions."""
        found = []
        for level in range(len(LEVELS)):
            shares = []
            for number in range(len(self.views)):
                regions, operator = self.views[number].regions[level], self.views[number].operator
                rows = regions[regions >= 0].unique().long()
                shares.append((operator.backproject((regions[..., None] == rows).float()), rows))
            found.append(shares)
        return found
