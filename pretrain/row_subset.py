"""Selects the rows of scenes in folders of shards, and samples them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.shards import REPAIR, OpenShard, Shard, ShardFolder


@dataclass(frozen=True)
class ShardSubset:
    """The selected rows of a shard: whether each row is `kept` (None for all rows), and their number."""

    folder: ShardFolder
    shard: Shard
    kept: Bool[np.ndarray, " shard_rows"] | None
    rows: int

    def open(self) -> OpenShard:
        """Opens the shard.

        Raises:
            GenLangSplatError: If it is missing, truncated or does not match the index.
        """
        return self.folder.open(self.shard)


@dataclass(frozen=True)
class RowSample:
    """A sample of rows, in stored order: unit vectors, indices of levels, and names of scenes and of their sources."""

    embeddings: Float[Tensor, "count embedding_dim"]
    levels: UInt8[Tensor, " count"]
    scenes: list[str]
    sources: list[str]


def select_rows(
    folders: Sequence[Path], scenes: Collection[str] | None = None, exclude_scenes: Collection[str] = ()
) -> list[ShardSubset]:
    """Selects the rows of some scenes. Only shards with both selected and other rows are opened.

    Args:
        folders: Folders of shards, all of one encoder.
        scenes: Names of the scenes to select; None for all. Unknown names are ignored.
        exclude_scenes: Names of scenes to exclude; overrides `scenes`.

    Raises:
        GenLangSplatError: If a folder cannot be read, the folders are of different encoders, or no row is selected.
    """
    if not folders:
        raise GenLangSplatError("No folder of embedding shards was given. Give at least one.")
    opened = [ShardFolder.read(folder) for folder in folders]
    _check_same_encoder(opened)
    subsets = []
    for folder in opened:
        names = [scene.name for scene in folder.index.scenes]
        wanted = np.array([(scenes is None or name in scenes) and name not in exclude_scenes for name in names], bool)
        for shard in folder.index.shards:
            rows = sum(count for scene, count in shard.scene_rows.items() if wanted[scene])
            if rows:
                kept = None if rows == shard.rows else wanted[folder.open(shard).column("scene").numpy()]
                subsets.append(ShardSubset(folder, shard, kept, rows))
    if not subsets:
        total = sum(folder.index.rows for folder in opened)
        found = sorted({scene.name for folder in opened for scene in folder.index.scenes})
        raise GenLangSplatError(
            f"None of the {total} rows in {', '.join(map(str, folders))} is of a selected scene. Found {len(found)} "
            f"scenes: {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}. Choose among these, or exclude fewer."
        )
    return subsets


def read_rows(
    folders: Sequence[Path],
    scenes: Collection[str] | None = None,
    max_rows: int = 100_000,
    seed: int = 0,
    exclude_scenes: Collection[str] = (),
) -> RowSample:
    """Reads a uniform random sample of at most `max_rows` rows; the other arguments are those of `select_rows`.

    Raises:
        GenLangSplatError: If `max_rows` is not positive, a folder cannot be read, the folders are of different
            encoders, no row is selected, or an embedding is zero or not finite.
    """
    if max_rows < 1:
        raise GenLangSplatError(f"A sample needs at least one row, got max_rows={max_rows}.")
    subsets = select_rows(folders, scenes, exclude_scenes)
    total = sum(subset.rows for subset in subsets)
    chosen = np.sort(np.random.default_rng(seed).choice(total, min(max_rows, total), replace=False))
    embeddings, levels, places = [], [], []
    first = 0
    for subset in subsets:
        rows = chosen[(chosen >= first) & (chosen < first + subset.rows)] - first
        first += subset.rows
        if len(rows) == 0:
            continue
        if subset.kept is not None:
            rows = np.flatnonzero(subset.kept)[rows]
        shard = subset.open()
        index = torch.from_numpy(rows)
        # Single rows, because the whole column may be much larger than the sample.
        embeddings.append(torch.cat([shard.column("embeddings", row, row + 1) for row in rows.tolist()]))
        levels.append(shard.column("level")[index])
        places += [subset.folder.index.scenes[place] for place in shard.column("scene")[index].tolist()]
    units = unit_rows(torch.cat(embeddings), folders)
    return RowSample(units, torch.cat(levels), [scene.name for scene in places], [scene.source for scene in places])


def unit_rows(
    embeddings: Float[Tensor, "count embedding_dim"], folders: Sequence[Path]
) -> Float[Tensor, "count embedding_dim"]:
    """Converts stored rows to float32 and normalizes them.

    Raises:
        GenLangSplatError: If a row is zero or not finite.
    """
    values = embeddings.float()
    norms = torch.linalg.vector_norm(values, dim=1, keepdim=True)
    if len(values) and not 0 < float(norms.min()) <= float(norms.max()) < float("inf"):
        raise GenLangSplatError(
            f"The shards in {', '.join(map(str, folders))} contain embeddings that are zero or not finite. {REPAIR}"
        )
    return values.div_(norms)


def _check_same_encoder(folders: Sequence[ShardFolder]) -> None:
    first = folders[0]
    for other in folders[1:]:
        one, two = first.index.identity, other.index.identity
        if (one.encoder, one.embedding_dim) != (two.encoder, two.embedding_dim):
            raise GenLangSplatError(
                f"{first.folder} contains embeddings of {one.encoder} with {one.embedding_dim} dimensions, "
                f"{other.folder} of {two.encoder} with {two.embedding_dim}. Give folders of one encoder."
            )
