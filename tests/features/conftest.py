"""A machine without weights, and weights of a tiny SAM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch
from segment_anything import sam_model_registry

from tests.features.tiny_sam import build_other, build_tiny


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A file of random weights of the tiny SAM."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(build_tiny().state_dict(), path)
    return path


@pytest.fixture
def empty_machine(monkeypatch, tmp_path) -> Iterator[None]:
    """Caches without anything in them, a network that is not there, and two more sizes of SAM."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("nothing may be downloaded here")

    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setitem(sam_model_registry, "vit_tiny", build_tiny)
    monkeypatch.setitem(sam_model_registry, "vit_other", build_other)
    yield
