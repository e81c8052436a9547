"""Embeddings that were already extracted for a scene: a feature store as a source."""

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
    """The embeddings of one view.

    Attributes:
        key: The store's key of the view.
        embeddings: One row for each region that shows in the view.
        levels: The level of each row, as an index into `LEVELS`.
    """

    key: str
    embeddings: Float16[Tensor, "rows embedding_dim"]
    levels: Int8[Tensor, " rows"]


class StoredEmbeddings:
    """All views of a feature store.

    Args:
        folder: The store's own folder, SCENE/language_features/STORE.

    Attributes:
        folder: That folder, absolute.
        scene: Name of the scene.
        damaged: What is wrong with each view that could not be read so far, by its key.

    Raises:
        GenLangSplatError: If the folder is no feature store.
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
        """Whose embeddings they are."""
        return self._store.identity

    @cached_property
    def keys(self) -> list[str]:
        """The keys of all views, sorted, with the damaged ones.

        Raises:
            GenLangSplatError: If there are none.
        """
        keys = self._store.keys()
        if not keys:
            raise GenLangSplatError(f"{self.folder} holds no view. Extract features of the scene first.")
        return keys

    def view(self, key: str) -> StoredView:
        """Reads one view.

        Raises:
            GenLangSplatError: If its file is missing or damaged.
        """
        features = self._store.load(key)
        levels = row_levels(features.regions, len(features.embeddings))
        shown = levels >= 0
        # What the store gives as float32 lies there as fp16.
        return StoredView(key, features.embeddings[shown].half(), levels[shown])

    def __iter__(self) -> Iterator[StoredView]:
        """Reads view after view; those that cannot be read are left out and noted in `damaged`."""
        for key in self.keys:
            try:
                view = self.view(key)
            except GenLangSplatError as error:
                self.damaged[key] = str(error)
                continue
            yield view


def row_levels(regions: Int32[Tensor, "levels height width"], num_rows: int) -> Int8[Tensor, " rows"]:
    """The level on whose map each row shows; the finest of several, and -1 for none."""
    levels = torch.full((num_rows + 1,), -1, dtype=torch.int8)
    for level in reversed(range(len(regions))):
        # No region, -1, falls on the place after the last row.
        levels[regions[level].flatten()] = level
    return levels[:num_rows]
