"""Writes folders of synthetic shards, and reads their content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pretrain.shard_writer import ShardWriter
from pretrain.shards import ShardFolder, ShardIdentity
from tests.features.fakes import DIM, MeanColorEncoder, TileMasks

IDENTITY = ShardIdentity(MeanColorEncoder.identity, DIM, TileMasks.name, TileMasks().settings)


def write_frames(folder: Path, count: int, rows: int = 10, first: int = 0, shard_rows: int = 16) -> None:
    """Adds frames of random embeddings, three per scene."""
    with ShardWriter.open(folder, IDENTITY, "made", shard_rows) as writer:
        for number in range(first, first + count):
            embeddings = unit_rows(rows, seed=number)
            writer.add(f"{number:03d}", f"scene{number // 3}", embeddings, levels_of(embeddings))


def contents(folder: Path) -> list[tuple[str, str, int, bytes]]:
    """Returns all rows of a folder as sorted (frame, scene, level, embedding), independent of the shards."""
    found = ShardFolder.read(folder)
    frames, scenes = list(found.index.frames), found.index.scenes
    rows = []
    for shard in found.index.shards:
        part = found.open(shard).rows()
        columns = zip(part.frame, part.scene, part.level, part.embeddings, strict=True)
        rows += [(frames[f], scenes[s].name, int(level), vector.tobytes()) for f, s, level, vector in columns]
    return sorted(rows)


def unit_rows(count: int, width: int = DIM, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator), dim=1)


def levels_of(rows: Sequence[object] | Tensor) -> Tensor:
    return torch.arange(len(rows), dtype=torch.uint8) % 3
