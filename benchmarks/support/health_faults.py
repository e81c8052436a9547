"""Small trainings of the gallery, healthy and with one fault each, and their health."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32
from scipy.ndimage import zoom
from torch import Tensor

from genlangsplat_ns.config import gen_langsplat_lite
from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.features.store import FeatureStore
from genlangsplat_ns.language.autoencoder import (
    Autoencoder,
    AutoencoderIdentity,
    initialize_from_pca,
    save_autoencoder,
)
from genlangsplat_ns.language.settings import DecoderName
from genlangsplat_ns.scene.health_report import scene_health
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.measured_views import MeasuredView, views_to_measure

GALLERY = GallerySettings(num_views=10, width=160, height=120, num_points=2_500)
RGB_STEPS = 200

BLUR = 0.06
"""Largest shift of the borders of masks, as a share of the width of a view."""

RATE, RATE_STEPS = 30.0, 200
"""Learning rate of the latents at which they collapse, and steps with it."""

PIECES, DISTANCE = 40, 0.08
"""Number of pieces of the geometry that move, and how far, as a share of the extent of the scene."""

OTHER_DOMAIN = [
    "a contract",
    "a tax",
    "an interest rate",
    "a bank loan",
    "inflation",
    "the stock market",
    "a bond",
    "insurance",
    "a mortgage",
    "a court",
    "a law",
    "a verdict",
    "a senator",
    "parliament",
    "an election",
    "a treaty",
    "a budget",
    "a deficit",
    "philosophy",
    "ethics",
    "justice",
    "freedom",
    "a theory",
    "a number",
    "algebra",
    "an integral",
    "an equation",
    "a proof",
    "a theorem",
    "logic",
    "a debt",
    "a dividend",
    "an audit",
    "a clause",
    "a statute",
    "a motive",
    "an argument",
    "a premise",
    "a ratio",
    "a matrix",
]
"""Texts on which the autoencoder of another domain is fitted."""

Health = dict[str, dict[str, Any]]
"""The entry `health` of a report."""


def config_of(data: Path, output: Path, name: str) -> Any:
    """The lite method, shortened."""
    config = deepcopy(gen_langsplat_lite.config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir, config.experiment_name, config.timestamp = output, name, "run"
    config.vis = "tensorboard"
    config.max_num_iterations = RGB_STEPS + 1
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.steps_per_save = 10**9
    for key, value in {"warmup_length": 50, "refine_every": 50, "resolution_schedule": 100}.items():
        setattr(config.pipeline.model, key, value)
    return config


def train(config: Any, seed: int) -> Any:
    """Trains in this process and returns the trainer."""
    torch.manual_seed(seed)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def health_of(trainer: Any) -> Health:
    """The health in the report of a run."""
    health: Health = json.loads((trainer.base_dir / "report.json").read_text())["health"]
    return health


def health_now(trainer: Any) -> Health:
    """The health of the scene that a trainer holds."""
    scene = LanguageScene(trainer.pipeline.model.eval(), trainer.pipeline.datamanager)
    views = [MeasuredView.render(scene, view) for view in views_to_measure(scene)]
    return {line.name: line.to_json() for line in scene_health(scene, views)}


class FaultyRuns:
    """A healthy run on a small gallery, and runs on its Gaussians with one fault each.

    Args:
        folder: Folder for the scene and the runs.
        seed: Seed of the gallery, of the trainings and of the faults.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.data = build_gallery(folder / "data", replace(GALLERY, seed=seed))
        self.healthy = train(config_of(self.data, folder / "runs", "healthy"), seed)

    def on_its_gaussians(self, name: str, **model: Any) -> Any:
        """Settings of a run that only fits language to the Gaussians of the healthy one."""
        config = config_of(self.data, self.folder / "runs", name)
        config.pipeline.init_from = self.healthy.base_dir / "config.yml"
        for key, value in model.items():
            setattr(config.pipeline.model, key, value)
        return config

    def optimized(self) -> Health:
        """A healthy run with the paper's optimization, at LangSplat's learning rate."""
        config = self.on_its_gaussians("optimized", language_solver="adam", language_steps=RATE_STEPS)
        return health_of(train(config, self.seed))

    def collapsed(self) -> Health:
        """The paper's optimization with a learning rate of 30."""
        config = self.on_its_gaussians("collapsed", language_solver="adam", language_steps=RATE_STEPS)
        config.optimizers["latents"]["optimizer"].lr = RATE
        return health_of(train(config, self.seed))

    def of_another_domain(self, encoder: ImageTextEncoder, decoder: DecoderName = "autoencoder") -> Health:
        """An autoencoder that was fitted to texts of another domain; the memory can decode what it cannot."""
        random = np.random.default_rng(self.seed)
        texts = random.choice(OTHER_DOMAIN, 30, replace=False).tolist()
        identity = AutoencoderIdentity(
            "another domain", encoder.identity, encoder.embedding_dim, 16, architecture="linear"
        )
        autoencoder = Autoencoder(identity)
        initialize_from_pca(autoencoder, encoder.encode_texts(texts))
        path = self.folder / "another-domain.safetensors"
        save_autoencoder(path, autoencoder)
        config = self.on_its_gaussians(f"another-domain-{decoder}", autoencoder=str(path), decoder=decoder)
        return health_of(train(config, self.seed))

    def blurred(self) -> Health:
        """Masks whose borders are shifted anew in every view, in the stored features of all views."""
        store: FeatureStore = self.healthy.pipeline.datamanager.store
        originals = {key: store.load(key) for key in store.keys()}  # noqa: SIM118 - not a mapping
        try:
            for number, (key, features) in enumerate(originals.items()):
                regions = shift_borders(features.regions, BLUR, np.random.default_rng([self.seed, number]))
                store.save(key, replace(features, regions=regions))
            return health_of(train(self.on_its_gaussians("blurred"), self.seed))
        finally:
            for key, features in originals.items():
                store.save(key, features)

    def displaced(self, before_lifting: bool = False) -> Health:
        """Pieces of the geometry moved, each in its own direction, after the language was lifted or before."""
        trainer = train(self.on_its_gaussians("displaced"), self.seed)
        model = trainer.pipeline.model
        generator = torch.Generator().manual_seed(self.seed)
        means = model.means.detach().cpu()
        centers = means[torch.randperm(len(means), generator=generator)[:PIECES]]
        extent = (means.quantile(0.9, dim=0) - means.quantile(0.1, dim=0)).max()
        offsets = torch.nn.functional.normalize(torch.randn(PIECES, 3, generator=generator), dim=-1)
        moved = means + DISTANCE * extent * offsets[torch.cdist(means, centers).argmin(dim=1)]
        model.means.data.copy_(moved)
        if before_lifting:
            trainer.pipeline.begin_language_phase(0)
        return health_now(trainer)


def shift_borders(
    regions: Int32[Tensor, "levels height width"], share: float, random: np.random.Generator
) -> Int32[Tensor, "levels height width"]:
    """Reads every level at positions displaced along a smooth random field, by up to a share of the width."""
    levels, height, width = regions.shape
    reach = share * width
    cell = max(4, int(2 * reach))
    coarse = height // cell + 2, width // cell + 2
    factors = height / coarse[0], width / coarse[1]
    shifted = []
    for level in range(levels):
        places = []
        for axis, own in enumerate(np.indices((height, width))):
            offsets = zoom(random.uniform(-reach, reach, coarse), factors, order=1)
            places.append(np.clip(np.rint(own + offsets), 0, (height, width)[axis] - 1).astype(np.int64))
        shifted.append(regions[level].numpy()[tuple(places)])
    return torch.from_numpy(np.stack(shifted))


FAULTS: dict[str, str | None] = {
    "healthy": None,
    "optimized": None,
    "blurred masks": "semantic bleeding",
    "learning rate 30": "latent collapse",
    "displaced geometry": "geometry-semantic misalignment",
    "another domain": "unfaithful code",
    "another domain, memory": None,
}
"""The runs, and the fault that each must show alone."""


def health_of_all(
    folder: Path, seed: int, encoder: ImageTextEncoder, names: Collection[str] = tuple(FAULTS)
) -> dict[str, Health]:
    """Trains the healthy run and faulty ones, by default all of `FAULTS`."""
    runs = FaultyRuns(folder, seed)
    makers: dict[str, Callable[[], Health]] = {
        "healthy": lambda: health_of(runs.healthy),
        "optimized": runs.optimized,
        "blurred masks": runs.blurred,
        "learning rate 30": runs.collapsed,
        "displaced geometry": runs.displaced,
        "another domain": lambda: runs.of_another_domain(encoder),
        "another domain, memory": lambda: runs.of_another_domain(encoder, "memory"),
    }
    return {name: make() for name, make in makers.items() if name in names}
