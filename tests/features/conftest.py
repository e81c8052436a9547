"""Fixtures: a machine without weights, and weights of a tiny SAM and a tiny CLIP."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import huggingface_hub.constants
import numpy as np
import platformdirs
import pytest
import torch
from segment_anything import sam_model_registry

from genlangsplat_ns.features import encoders
from genlangsplat_ns.features.open_clip_encoder import OpenClipEncoder
from genlangsplat_ns.features.regions import RegionMask, ViewMasks
from tests.features.tiny_clip import settings_for, tiny_clip_models
from tests.features.tiny_sam import build_other, build_tiny


@pytest.fixture(autouse=True)
def captured_log(caplog: pytest.LogCaptureFixture) -> None:
    """Captures all log messages, from level info."""
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A file with random weights of the tiny SAM."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(build_tiny().state_dict(), path)
    return path


@pytest.fixture
def empty_machine(monkeypatch, tmp_path) -> Iterator[None]:
    """Empty caches, and two additional SAM models."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setitem(sam_model_registry, "vit_tiny", build_tiny)
    monkeypatch.setitem(sam_model_registry, "vit_other", build_other)
    yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models of CLIP with their weights."""
    return tiny_clip_models(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def offline(tmp_path, monkeypatch) -> None:
    """No network, and empty caches of weights."""

    def refuse(*args: object) -> None:
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


@pytest.fixture
def nothing_loaded(monkeypatch) -> None:
    """Separates the loaded encoders of these tests from those of other tests."""
    monkeypatch.setattr(encoders, "loaded_encoders", {})


@pytest.fixture
def encoder(folder) -> OpenClipEncoder:
    return OpenClipEncoder(settings_for(folder / "a.pt"))


@pytest.fixture
def image(rng) -> torch.Tensor:
    """Smooth colors with noise."""
    coarse = cv2.resize(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8), (120, 90), interpolation=cv2.INTER_CUBIC)
    noisy = coarse.astype(np.int64) + rng.integers(-40, 41, coarse.shape)
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture
def masks() -> ViewMasks:
    """Eleven masks at three levels: tall, wide, square, tiny, and larger than the model's input; some overlap."""
    rows, columns = np.mgrid[:90, :120]
    found = [np.hypot(rows - 45, columns - 60) < 40, np.hypot(rows - 20, columns - 90) < 17]
    found += [(rows > 10) & (rows < 80) & (abs(columns - 30 - rows / 3) < 6), (rows < 7) & (columns > 20)]
    found += [(rows == 40) & (columns == 33), (rows // 9 + columns // 11) % 3 == 0, rows >= 0]
    found += [(abs(rows - 50) < 16) & (abs(columns - 80) < 16), rows > 80, columns < 12, (rows + columns) % 2 == 0]
    return ViewMasks(90, 120, 3, [RegionMask.from_pixels(number % 3, pixels) for number, pixels in enumerate(found)])
