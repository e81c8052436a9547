"""A short run in its own process that is killed with signal 9 at a given place."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genlangsplat_ns.features import extractor
from genlangsplat_ns.features.store import FeatureStore
from genlangsplat_ns.lifting.average import LatentMean
from genlangsplat_ns.pipeline import GenLangSplatPipeline
from tests.end_to_end.conftest import make_config, train
from tests.end_to_end.quick_extraction import ColorEncoder

PLACES: dict[str, tuple[type, str, int]] = {
    "extraction": (FeatureStore, "save", 5),
    "splat training": (GenLangSplatPipeline, "get_train_loss_dict", 26),
    "between the phases": (GenLangSplatPipeline, "begin_language_phase", 1),
    "lifting": (LatentMean, "add", 4),
}
"""Places where a run can be killed: before the n-th call of a method."""


def killed_run_config(scene: Path, output: Path) -> Any:
    """A short run that saves a checkpoint every ten steps."""
    config = make_config(scene, output)
    config.steps_per_save = 10
    return config


def kill_at_call(method: Callable[..., Any], fatal_call: int) -> Callable[..., Any]:
    """Wraps a method so that one of its calls kills the process without cleanup."""
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fatal_call:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args, **kwargs)

    return wrapped


def train_until_killed(scene: Path, output: Path, place: str) -> None:
    """Trains until the process is killed at the place."""
    owner, name, call = PLACES[place]
    setattr(owner, name, kill_at_call(getattr(owner, name), call))
    extractor.load_encoder = lambda *args, **kwargs: ColorEncoder()  # type: ignore[assignment]
    train(killed_run_config(scene, output))
