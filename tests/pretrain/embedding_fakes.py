"""Writes folders of synthetic embeddings, and reads their content."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from genlangsplat_ns.features.store import StoreIdentity
from genlangsplat_ns.levels import LEVELS
from pretrain.scene_files import SceneFile, scene_paths, write_scene
from tests.features.fakes import DIM, MeanColorEncoder, TileMasks

IDENTITY = StoreIdentity("colors", MeanColorEncoder.identity, DIM, TileMasks.name, TileMasks().settings, LEVELS)
ROWS = 30
"""Rows of a scene: three frames of ten."""


def write_scenes(folder: Path, count: int, first: int = 0, identity: StoreIdentity = IDENTITY) -> list[SceneFile]:
    """Writes scenes of random embeddings."""
    return [
        write_scene(folder, identity, "made", f"scene{number}", frames(number), {})
        for number in range(first, first + count)
    ]


def frames(scene: int) -> dict[str, tuple[Tensor, Tensor]]:
    rows = unit_rows(ROWS, seed=scene).half().split(10)
    return {f"{scene}/{number}": (part, torch.arange(10, dtype=torch.uint8) % 3) for number, part in enumerate(rows)}


def contents(folder: Path) -> list[tuple[str, str, int, bytes]]:
    """Returns all rows of a folder as sorted (frame, scene, level, embedding), independent of the files."""
    found = []
    for file in map(SceneFile.read, scene_paths(folder)):
        keys = [key for key, rows in file.frames.items() for _ in range(rows)]
        for key, level, row in zip(keys, file.levels().tolist(), file.embeddings(), strict=True):
            found.append((key, file.scene, level, row.numpy().tobytes()))
    return sorted(found)


def unit_rows(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, DIM, generator=generator), dim=1)


def damage(path: Path, kind: str) -> None:
    """Flips a bit of the rows or of the metadata, truncates or deletes a file."""
    content = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
        return
    if kind == "truncated":
        content = content[:-7]
    if kind == "flipped":
        content[-30] ^= 1
    if kind == "renamed":
        content = content.replace(b"scene", b"scenf", 1)
    path.write_bytes(content)


DAMAGES = ("truncated", "flipped", "renamed")
