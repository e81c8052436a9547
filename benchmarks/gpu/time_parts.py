"""Times steps of training, lifting, optimization and queries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from nerfstudio.engine.callbacks import TrainingCallbackLocation

from genlangsplat_ns.demo.gallery import QUERIES
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.lifting import lift_scene
from gpu.part import Settings
from gpu.sentences import use_stored_sentences
from gpu.training import newest_run, short_config, stage_costs, train

WARM_UP = 20


def synchronize() -> None:
    """Waits for the card."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], Any], repetitions: int) -> list[float]:
    """Wall-clock seconds of each repetition, after one that is not counted."""
    times = []
    for _ in range(repetitions + 1):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        times.append(time.perf_counter() - start)
    return times[1:]


def steps(settings: Settings) -> None:
    """Times RGB steps of stock splatfacto and of this method, on the same views and from the same seed points."""
    use_stored_sentences()
    data, count = settings.folder / "gallery" / "data", settings.size(300, 10)
    output = settings.folder / "steps"
    methods = {"gen-langsplat": short_config(data, output, "ours", count, settings.device, resolution_schedule=1)}
    if settings.on_cuda:
        methods["splatfacto"] = _stock(data, output)
    else:
        settings.report("splatfacto", "needs a card")
    for name, config in methods.items():
        times = time_steps(config, count)
        settings.report(f"step of {name}, median", 1e3 * statistics.median(times), "ms")
        settings.report(f"step of {name}, mean", 1e3 * statistics.mean(times), "ms")


def _stock(data: Path, output: Path) -> Any:
    """The settings of stock splatfacto, without the image metric, whose weights it would download."""
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.models import splatfacto

    splatfacto.LearnedPerceptualImagePatchSimilarity = lambda **_: None
    config = deepcopy(method_configs["splatfacto"])
    config.data = config.pipeline.datamanager.data = data
    config.output_dir, config.experiment_name, config.vis = output, "stock", "tensorboard"
    config.pipeline.model.resolution_schedule = 1
    config.set_timestamp()
    return config


def time_steps(config: Any, count: int) -> list[float]:
    """Runs nerfstudio's training steps with their callbacks, and returns the seconds of each after the first ones."""
    torch.manual_seed(0)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.pipeline.train()
    times = []
    for step in range(count):
        synchronize()
        start = time.perf_counter()
        for location in (TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, None):
            if location is None:
                trainer.train_iteration(step)
                location = TrainingCallbackLocation.AFTER_TRAIN_ITERATION
            for callback in trainer.callbacks:
                callback.run_callback_at_location(step, location=location)
        synchronize()
        times.append(time.perf_counter() - start)
    return times[min(WARM_UP, count // 2) :]


def language(settings: Settings) -> None:
    """Times lifting, the paper's optimization, and queries in both modes, on the trained gallery."""
    use_stored_sentences()
    run = newest_run(settings.folder / "gallery")
    scene = open_run(run)
    settings.report("Gaussians", scene.model.num_points)
    times = seconds_of(lambda: lift_scene(scene.model, scene.datamanager), settings.size(3, 1))
    settings.report("lifting and memory", statistics.median(times), "s")
    query = scene.embed(TextQuery((QUERIES[0].text,)))
    camera = scene.camera(scene.views("train")[0])
    for mode in ("gaussian", "rendered"):
        times = seconds_of(lambda mode=mode: scene.answer(query, camera, mode), settings.size(20, 2))
        settings.report(f"answer in a view, mode {mode}", 1e3 * statistics.median(times), "ms")
    times = seconds_of(lambda: scene.select(QUERIES[1].text), settings.size(5, 1))
    settings.report("selection of Gaussians", 1e3 * statistics.median(times), "ms")
    count = settings.size(300, 4)
    config = short_config(
        settings.folder / "gallery" / "data",
        settings.folder / "adam",
        "adam",
        0,
        settings.device,
        language_solver="adam",
        language_steps=count,
        language_start_step=0,
    )
    config.pipeline.init_from = run
    spent = stage_costs(train(config))["language steps"]
    settings.report("step of Adam", 1e3 * spent["wall_seconds"] / count, "ms")
