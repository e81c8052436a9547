"""The trainer's RGB step on a generated scene, with timers between its parts."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils import writer
from torch import Tensor
from torch.amp import GradScaler

from genlangsplat_ns.config import gen_langsplat_lite
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.language.named_autoencoders import scene_autoencoder
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.pipeline import GenLangSplatPipeline
from genlangsplat_ns.rasterization import Gaussians, View
from support.benchmark import Row
from support.timing import Timing

FORWARD, BACKWARD, LOSS, OPTIMIZER, STRATEGY, REST = PARTS = (
    "forward",
    "backward",
    "loss",
    "optimizer",
    "strategy",
    "rest",
)
"""The first two are the rasterizer's. The loss includes its forward and backward pass, and that of clamp and blend."""
USUAL_SIZE = (270, 480)
"""Height and width of the image for which the Gaussians are sized."""
USUAL_COUNT = 100_000
"""Number of Gaussians of the steps that differ in image size."""
LAYERS = 10.0
"""Sum of the Gaussians' areas within one standard deviation, including blur, relative to the image of usual size."""
BLUR = 0.3
VIEWS = 4
FIRST_STEP = 1_001
"""At this step, the method uses the full resolution and still densifies."""
WARM_UP, REPETITIONS, REFINEMENTS = 3, 9, 3
GROWTH = 1.05
"""The maximum number of Gaussians of each refinement, as a multiple of the current number."""


class Laps:
    """Assigns the elapsed time to the parts of a step, in milliseconds."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Starts a step."""
        self.wall, self.processor = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)
        self._last = time.perf_counter(), time.process_time()

    def lap(self, part: str) -> None:
        """Adds the time since the last call to a part."""
        now = time.perf_counter(), time.process_time()
        self.wall[part] += 1e3 * (now[0] - self._last[0])
        self.processor[part] += 1e3 * (now[1] - self._last[1])
        self._last = now


class TimedModel(GenLangSplatModel):
    """The method's model with a timer."""

    laps: Laps

    def splat(
        self, gaussians: Gaussians, values: Tensor, view: View, **options: Any
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Renders. The gradient reaches the image before the rasterizer's backward pass, and the opacities after it."""
        self.laps.lap(REST)
        render, alpha, info = super().splat(gaussians, values, view, **options)
        self.laps.lap(FORWARD)
        render.register_hook(lambda gradient: self.laps.lap(LOSS))
        gaussians.opacities.register_hook(lambda gradient: self.laps.lap(BACKWARD))
        return render, alpha, info

    def get_loss_dict(self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: Any = None) -> dict[str, Any]:
        """Computes the loss."""
        self.laps.lap(REST)
        losses = super().get_loss_dict(outputs, batch, metrics_dict)
        self.laps.lap(LOSS)
        return losses

    def step_post_backward(self, step: int) -> None:
        """Densifies."""
        self.laps.lap(REST)
        super().step_post_backward(step)
        self.laps.lap(STRATEGY)


class TimedOptimizers(Optimizers):
    """nerfstudio's optimizers and schedulers with a timer."""

    laps: Laps

    def zero_grad_some(self, param_groups: list[str]) -> None:
        """Resets the gradients."""
        self.laps.lap(REST)
        super().zero_grad_some(param_groups)
        self.laps.lap(OPTIMIZER)

    def optimizer_scaler_step_some(self, grad_scaler: GradScaler, param_groups: list[str]) -> None:
        """Updates the parameters."""
        self.laps.lap(REST)
        super().optimizer_scaler_step_some(grad_scaler, param_groups)
        self.laps.lap(OPTIMIZER)

    def scheduler_step_all(self, step: int) -> None:
        """Updates the learning rates."""
        self.laps.lap(REST)
        super().scheduler_step_all(step)
        self.laps.lap(OPTIMIZER)


class SyntheticPipeline:
    """The method's pipeline with generated images, which are unrelated to the Gaussians."""

    get_train_loss_dict = GenLangSplatPipeline.get_train_loss_dict

    def __init__(self, model: GenLangSplatModel, height: int, width: int) -> None:
        self.model, self.datamanager = model, self
        poses = torch.eye(4)[:3].repeat(VIEWS, 1, 1)
        poses[:, 0, 3] = torch.linspace(-0.1, 0.1, VIEWS)
        self.cameras = Cameras(poses, float(width), float(width), width / 2, height / 2, width, height)
        self.images = [make_picture(height, width, seed) for seed in range(VIEWS)]

    def next_train(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """Returns the views in turn, like nerfstudio's datamanager."""
        index = step % VIEWS
        camera = self.cameras[index : index + 1]
        camera.metadata = {"cam_idx": index}
        return camera, {"image": self.images[index], "image_idx": index}


class TimedTrainer:
    """The parts of nerfstudio's trainer that a step needs."""

    device, mixed_precision = "cpu", False
    train_iteration = Trainer.train_iteration

    def __init__(self, count: int, height: int, width: int) -> None:
        config = deepcopy(gen_langsplat_lite.config)
        self.laps = Laps()
        self.model = make_model(config.pipeline.model, count)
        self.pipeline = SyntheticPipeline(self.model, height, width)
        self.optimizers = TimedOptimizers(config.optimizers, self.model.get_param_groups())
        self.model.laps = self.optimizers.laps = self.laps
        self.gradient_accumulation_steps: dict[str, int] = defaultdict(lambda: 1)
        self.grad_scaler = GradScaler("cpu", enabled=False)
        self.config = SimpleNamespace(log_gradients=False)

    def run_step(self, step: int) -> tuple[dict[str, float], dict[str, float]]:
        """Runs one step with its callbacks; returns wall and processor time of the parts."""
        self.laps.restart()
        self.model.train()
        self.model.step_cb(self.optimizers, step)
        self.train_iteration(step)
        self.model.step_post_backward(step)
        writer.write_out_storage()
        self.laps.lap(REST)
        return self.laps.wall, self.laps.processor


def make_model(config: Any, count: int) -> TimedModel:
    """Builds the model with few points and then sets its Gaussians, because initializing a million would take long."""
    extractor = FeatureExtractor(FeatureSettings(encoder="conse", masks="watershed"))
    model = TimedModel(
        config,
        scene_box=SceneBox(torch.tensor([[-10.0] * 3, [10.0] * 3])),
        num_train_data=VIEWS,
        seed_points=(torch.rand(4, 3), torch.zeros(4, 3)),
        metadata={},
        autoencoder=scene_autoencoder(config.autoencoder, extractor.encoder_identity, extractor.embedding_dim),
        load_text_encoder=extractor.load_text_encoder,
    )
    for name, values in make_gaussians(count).items():
        parameter = model.gauss_params[name]
        parameter.data = values.reshape(count, *parameter.shape[1:])
    model.gauss_params["latents"].data = torch.zeros(count, *model.latents.shape[1:])
    return model


def make_gaussians(count: int) -> dict[str, Tensor]:
    """Gaussians distributed over the image that cover it `LAYERS` times for any number of them."""
    random = torch.Generator().manual_seed(0)
    height, width = USUAL_SIZE
    variance = max(LAYERS * height * width / (math.pi * count) - BLUR, 0.01)
    depths = torch.empty(count).uniform_(2.0, 6.0, generator=random)
    x, y = (torch.rand(2, count, generator=random) - 0.5) * torch.tensor([[1.0], [height / width]]) * depths
    sizes = (math.sqrt(variance) / width * depths).log()
    return {
        # The camera's axes point right, up and backward.
        "means": torch.stack((x, -y, -depths), dim=-1),
        "scales": sizes[:, None] + 0.3 * torch.randn(count, 3, generator=random),
        "quats": torch.randn(count, 4, generator=random),
        "features_dc": torch.randn(count, 3, generator=random),
        "features_rest": torch.zeros(count, 0),
        "opacities": torch.logit(torch.empty(count).uniform_(0.15, 0.95, generator=random)),
    }


def make_picture(height: int, width: int, seed: int) -> Tensor:
    """An image of waves, in the format of the datamanager's cache."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    slopes, phases = 60 * torch.rand(2, 3, generator=random), 6 * torch.rand(3, generator=random)
    waves = torch.sin(x[..., None] * slopes[0] + y[..., None] * slopes[1] + phases)
    return ((waves + 1) * 127.5).to(torch.uint8)


def measure_steps(count: int, height: int, width: int) -> Row:
    """Times usual steps and refinements, and distributes a refinement's cost over the steps between refinements."""
    torch.manual_seed(0)
    trainer = TimedTrainer(count, height, width)
    usual = [trainer.run_step(FIRST_STEP + k) for k in range(WARM_UP + REPETITIONS)][WARM_UP:]
    every, strategy = trainer.model.config.refine_every, trainer.model.strategy
    refinements = []
    for k in range(1, REFINEMENTS + 1):
        strategy.max_gaussians = int(GROWTH * trainer.model.num_points)
        refinements.append(trainer.run_step(FIRST_STEP // every * every + k * every))
        trainer.run_step(FIRST_STEP + k * every)
    for k in range(2):
        extra = statistics.median(times[k][STRATEGY] for times in refinements)
        extra -= statistics.median(times[k][STRATEGY] for times in usual)
        for times in usual:
            times[k][STRATEGY] += extra / every
    parts = {part: Timing([wall[part] for wall, _ in usual], [time[part] for _, time in usual]) for part in PARTS}
    step = Timing([sum(wall.values()) for wall, _ in usual], [sum(time.values()) for _, time in usual])
    refinement = Timing([wall[STRATEGY] for wall, _ in refinements], [time[STRATEGY] for _, time in refinements])
    return {
        "gaussians": count,
        "height": height,
        "width": width,
        "steps_per_second": 1e3 / step.median,
        "step": step.row(),
        "parts": {part: timing.row() for part, timing in parts.items()},
        "refinement": refinement.row(),
        "gaussians_after_refinements": trainer.model.num_points,
    }


def fit_memory(rows: list[Row]) -> tuple[float, float, float]:
    """Linear fit of memory over Gaussians: bytes per Gaussian, bytes without Gaussians, and R^2."""
    counts = np.array([row["gaussians"] for row in rows])
    peaks = np.array([1e9 * row["peak_memory_gb"] for row in rows])
    slope, start = np.polyfit(counts, peaks, 1)
    return float(slope), float(start), float(np.corrcoef(counts, peaks)[0, 1] ** 2)
