"""A feature store as a source of embeddings that were already extracted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float16, Int8, Int32
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity


@dataclass(frozen=True)
class StoredView:
    """The embeddings of one view: one row per region with at least one pixel, with levels as indices into `LEVELS`."""

    key: str
    embeddings: Float16[Tensor, "rows embedding_dim"]
    levels: Int8[Tensor, " rows"]


class StoredEmbeddings:
    """All views of a feature store.

    Args:
        folder: The store's own folder, SCENE/language_features/STORE.

    Attributes:
        damaged: Problem of each view that could not be read so far, by key.

    Raises:
        GenLangSplatError: If the folder is not a feature store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.damaged: dict[str, str] = {}
        self._store = FeatureStore.existing(self.folder)
        place = self.folder.resolve()
        self.scene = place.parents[1].name if place.parent.name == "language_features" else place.name

    @property
    def name(self) -> str:
        """Short name of the source."""
        return self.scene

    @property
    def identity(self) -> StoreIdentity:
        """Identity of the store."""
        return self._store.identity

    @cached_property
    def keys(self) -> list[str]:
        """Sorted keys of all views, including damaged ones.

        Raises:
            GenLangSplatError: If there are none.
        """
        keys = self._store.keys()
        if not keys:
            raise GenLangSplatError(f"{self.folder} contains no views. Extract features of the scene first.")
        return keys

    def view(self, key: str) -> StoredView:
        """Reads one view.

        Raises:
            GenLangSplatError: If its file is missing or damaged.
        """
        features = self._store.load(key)
        levels = row_levels(features.regions, len(features.embeddings))
        shown = levels >= 0
        # Lossless: the store contains fp16 and returns float32.
        return StoredView(key, features.embeddings[shown].half(), levels[shown])

    def __iter__(self) -> Iterator[StoredView]:
        """Yields all readable views, and records the others in `damaged`."""
        for key in self.keys:
            try:
                view = self.view(key)
            except GenLangSplatError as error:
                self.damaged[key] = str(error)
                continue
            yield view


def row_levels(regions: Int32[Tensor, "levels height width"], num_rows: int) -> Int8[Tensor, " rows"]:
    """Returns the finest level on which each row has a pixel, -1 for rows without pixels."""
    levels = torch.full((num_rows + 1,), -1, dtype=torch.int8)
    for level in reversed(range(len(regions))):
        # -1 (no region) selects the additional last element.
        levels[regions[level].flatten()] = level
    return levels[:num_rows]
