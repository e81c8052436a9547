"""Format of a folder of embeddings: shards and their index.

A shard is a safetensors file with one row per region: `embeddings` (fp16 unit vectors), `scene` and `frame` (positions
in the index's lists) and `level`. Shards that the index does not list are ignored: a writer first writes a shard and
then the index, so that a folder is always consistent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, Int32, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import StoreIdentity
from genlangsplat_ns.utils.files import atomic_path, file_sha256

FORMAT_VERSION = 1
INDEX_NAME = "index.json"

SHARD_ROWS = 65_536
"""Rows of a full shard: 64 MiB at a width of 512."""

CHECKED_ROWS = 8192
"""Rows per batch when a shard is verified."""


@dataclass(frozen=True)
class ShardIdentity:
    """What the embeddings of a folder were made with.

    Attributes:
        encoder: Name, model and version of the encoder.
        masks: Short name of the mask generator.
        mask_settings: All settings that change its masks.
    """

    encoder: str
    embedding_dim: int
    masks: str
    mask_settings: Mapping[str, str | int | float] = field(default_factory=dict)
    levels: tuple[str, ...] = ("subpart", "part", "whole")

    @classmethod
    def from_store(cls, store: StoreIdentity) -> ShardIdentity:
        """Returns the identity for the embeddings of a feature store."""
        settings = dict(store.mask_settings)
        return cls(store.encoder_identity, store.embedding_dim, store.masks, settings, tuple(store.levels))


@dataclass(frozen=True)
class ShardScene:
    """A scene in a folder, and its source."""

    source: str
    name: str


@dataclass(frozen=True)
class Shard:
    """One file of a folder; `scene_rows` has the number of rows of each scene, by its position in the index."""

    file: str
    rows: int
    sha256: str
    scene_rows: Mapping[int, int]


@dataclass
class ShardIndex:
    """Index of a folder.

    Attributes:
        shard_rows: Rows of a full shard.
        scenes: The scenes; rows refer to positions in this list.
        frames: Number of rows of each extracted frame, by source and key; None if the rows were lost with a damaged
            shard and the frame must be extracted again. Rows refer to positions in this dict.
        failed: Reason of each failed frame.
        duplicates: Number of rows that were dropped as duplicates within their frame.
        quarantined: Problem of each damaged file that was removed.
    """

    identity: ShardIdentity
    shard_rows: int = SHARD_ROWS
    scenes: list[ShardScene] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)
    frames: dict[str, int | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def sources(self) -> list[str]:
        """Names of the sources, without duplicates."""
        return list(dict.fromkeys(scene.source for scene in self.scenes))

    def write(self, folder: Path) -> None:
        """Writes the index into the folder atomically; raises OSError if it cannot be written."""
        content = {"format": "embedding shards", "format_version": FORMAT_VERSION, **asdict(self)}
        with atomic_path(folder / INDEX_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> ShardIndex:
        """Reads the index of a folder.

        Raises:
            GenLangSplatError: If it is missing, damaged or of another version.
        """
        path = folder / INDEX_NAME
        try:
            content = json.loads(path.read_text())
            version = content.pop("format_version")
            if content.pop("format") != "embedding shards" or version != FORMAT_VERSION:
                raise GenLangSplatError(
                    f"{path} is of format version {version}, expected {FORMAT_VERSION}. Extract the embeddings again."
                )
            identity = content.pop("identity")
            return cls(
                identity=ShardIdentity(**{**identity, "levels": tuple(identity["levels"])}),
                scenes=[ShardScene(**scene) for scene in content.pop("scenes")],
                shards=[
                    Shard(**{**shard, "scene_rows": {int(key): rows for key, rows in shard["scene_rows"].items()}})
                    for shard in content.pop("shards")
                ],
                **content,
            )
        except FileNotFoundError as error:
            raise GenLangSplatError(
                f"{folder} contains no embedding shards: there is no {INDEX_NAME}. "
                "Create them with `python -m pretrain extract`, or give another folder."
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise GenLangSplatError(
                f"{path} is damaged or not an index of embedding shards ({type(error).__name__}: {error}). "
                "Restore it from a copy, or extract the embeddings again into another folder."
            ) from error


@dataclass(frozen=True)
class ShardRows:
    """All columns of some rows: unit vectors, indices of levels, and positions of scenes and frames in the index."""

    embeddings: Float16[np.ndarray, "rows embedding_dim"]
    scene: Int32[np.ndarray, " rows"]
    level: UInt8[np.ndarray, " rows"]
    frame: Int32[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, part: slice) -> ShardRows:
        return ShardRows(self.embeddings[part], self.scene[part], self.level[part], self.frame[part])

    @classmethod
    def concatenate(cls, parts: Sequence[ShardRows]) -> ShardRows:
        """Concatenates rows."""
        return cls(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))


class OpenShard:
    """A shard that is read through a memory map, which is closed with the object.

    Raises:
        GenLangSplatError: If the file is missing, truncated or does not match the index.
    """

    def __init__(self, folder: Path, shard: Shard, embedding_dim: int) -> None:
        self.path = folder / shard.file
        expected = {"embeddings": [shard.rows, embedding_dim], "scene": [shard.rows], "level": [shard.rows]}
        try:
            self._file = safe_open(self.path, framework="pt")
            self._columns = {name: self._file.get_slice(name) for name in (*expected, "frame")}
            found = {name: self._columns[name].get_shape() for name in expected}
        except (OSError, SafetensorError) as error:
            raise GenLangSplatError(f"{self.path} is missing, truncated or not a shard ({error}). {REPAIR}") from error
        if found != expected:
            raise GenLangSplatError(
                f"{self.path} has the columns {found}, expected {expected} from the index. {REPAIR}"
            )

    def column(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """Returns rows of a column, from `first` to before `last`."""
        return self._columns[name][first:last]

    def rows(self) -> ShardRows:
        """Returns a copy of all rows."""
        return ShardRows(*(self._columns[name][:].numpy().copy() for name in ShardRows.__dataclass_fields__))


REPAIR = (
    "Remove damaged shards with `python -m pretrain check FOLDER --quarantine`; the next extraction processes their "
    "frames again."
)
"""Advice in errors about damaged shards."""


@dataclass(frozen=True)
class ShardFolder:
    """A folder of shards for reading; created with `ShardFolder.read`."""

    folder: Path
    index: ShardIndex

    @classmethod
    def read(cls, folder: Path) -> ShardFolder:
        """Reads the index, and checks name, size and header of each shard.

        Raises:
            GenLangSplatError: If the index is invalid, or a shard is missing or truncated.
        """
        found = cls(folder, ShardIndex.read(folder))
        for shard in found.index.shards:
            found.open(shard)
        return found

    def open(self, shard: Shard) -> OpenShard:
        """Opens one of its shards.

        Raises:
            GenLangSplatError: If it is missing, truncated or does not match the index.
        """
        return OpenShard(self.folder, shard, self.index.identity.embedding_dim)

    def problems(self) -> dict[str, str]:
        """Reads all shards, and returns the problem of each damaged file."""
        problems = {shard.file: self._problem(shard) for shard in self.index.shards}
        return {file: problem for file, problem in problems.items() if problem is not None}

    def verify(self) -> None:
        """Reads and checks all shards.

        Raises:
            GenLangSplatError: If some are damaged or contain embeddings that are zero or not finite; lists all of them.
        """
        problems = self.problems()
        if problems:
            listed = "; ".join(f"{file} {problem}" for file, problem in problems.items())
            count = f"{len(problems)} of {len(self.index.shards)} shards"
            raise GenLangSplatError(f"{count} in {self.folder} are unusable: {listed}. {REPAIR}")

    def _problem(self, shard: Shard) -> str | None:
        try:
            opened = self.open(shard)
            digest = file_sha256(opened.path)
        except (OSError, GenLangSplatError):
            return "is missing, truncated or not a shard"
        if digest != shard.sha256:
            return "is damaged: its checksum differs from the index"
        for first in range(0, shard.rows, CHECKED_ROWS):
            if not usable(opened.column("embeddings", first, min(first + CHECKED_ROWS, shard.rows))):
                return "contains embeddings that are zero or not finite"
        return None


def usable(embeddings: Tensor) -> bool:
    """Whether all rows are finite and nonzero."""
    norms = torch.linalg.vector_norm(embeddings.float(), dim=-1)
    return bool(((norms > 0) & norms.isfinite()).all())
