"""Fakes of a data set and its models: small, exact, and able to fail on demand."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.regions import ViewMasks
from pretrain.frame_worker import FrameModels
from pretrain.sources import Frame
from tests.features.fakes import MeanColorEncoder, TileMasks
from tests.pretrain.embedding_fakes import IDENTITY

REGIONS = 48 + 12 + 4
"""Regions of a frame at the three levels."""


@dataclass(frozen=True)
class PaintedFrames:
    """Noise images in scenes of four frames.

    Attributes:
        count: Number of frames.
        unreadable: Keys of frames that cannot be read.
        deadly: Keys of frames that kill the process that reads them, with the number of times.
        deaths: Folder in which the deaths are counted.
    """

    count: int
    unreadable: tuple[str, ...] = ()
    deadly: dict[str, int] = field(default_factory=dict)
    deaths: Path = Path()
    name: str = "painted"

    def frames(self) -> list[Frame]:
        return [Frame(f"{index:04d}", f"scene{index // 4}") for index in range(self.count)]

    def load(self, frame: Frame) -> Tensor:
        if frame.key in self.unreadable:
            raise GenLangSplatError(f"{frame.key} is no picture.")
        deaths = len(list(self.deaths.glob(f"{frame.key}-*")))
        if deaths < self.deadly.get(frame.key, 0):
            (self.deaths / f"{frame.key}-{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return picture(int(frame.key))


def picture(number: int) -> Tensor:
    """Noise with distinct colors of the largest tiles, so that no two regions are nearly equal."""
    rng = np.random.default_rng(number)
    tints = np.array([[[1, 0.1, 0.1], [0.1, 1, 0.1]], [[0.1, 0.1, 1], [1, 1, 0.1]]]).repeat(8, axis=0).repeat(8, axis=1)
    # Colors of the smallest tiles plus pixel noise.
    colors = rng.uniform(30, 250, (6, 8, 3)).repeat(2, axis=0).repeat(2, axis=1) + rng.uniform(0, 5, (12, 16, 3))
    return torch.from_numpy((colors * tints[:12]).astype(np.uint8))


class CountedEncoder(MeanColorEncoder):
    """Counts its views in a file, over several processes."""

    def __init__(self, seconds: float = 0.0, count_in: Path | None = None, poison: str = "") -> None:
        super().__init__(seconds)
        self._count_in = count_in
        self._poison = poison

    def encode_regions(self, image: Tensor, masks: ViewMasks) -> Tensor:
        embeddings = super().encode_regions(image, masks)
        if self._count_in is not None:
            with self._count_in.open("a") as file:
                file.write("x")
        if self._poison and self.num_views == 2:
            embeddings[5] = {"nan": torch.nan, "zero": 0.0}[self._poison]
        return embeddings


def models(seconds: float = 0.0, count_in: Path | None = None, poison: str = "") -> FrameModels:
    return FrameModels(IDENTITY, TileMasks, partial(CountedEncoder, seconds, count_in, poison))
