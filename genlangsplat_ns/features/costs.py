"""What the extraction of each stored view cost, so that a run that finds its features stored can report it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.json_files import integer_of, list_of, number_of, object_of, read_json
from genlangsplat_ns.utils.stopwatch import StageCost

LOGGER = logging.getLogger(__name__)

MASKS, EMBEDDINGS = "masks", "embeddings"
"""Stages of the extraction. Each includes loading its model."""

FILE = "costs.json"
"""Name of the file in the folder of a feature store."""

SECONDS_BETWEEN_WRITES = 10.0
"""A killed extraction loses at most the costs of this many seconds."""


@dataclass(frozen=True)
class ViewCost:
    """The costs of extracting one view, without loading the models."""

    regions: int
    """Number of regions found."""
    masks: StageCost
    """Costs of finding the masks."""
    embeddings: StageCost
    """Costs of embedding them."""


class ExtractionCosts:
    """The costs of the views of a feature store, by key. Views extracted by earlier versions have none.

    Args:
        folder: Folder of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._views = _read(self._path)
        self._written = time.monotonic()

    def __getitem__(self, key: str) -> ViewCost:
        return self._views[key]

    def __contains__(self, key: object) -> bool:
        return key in self._views

    def add(self, key: str, cost: ViewCost) -> None:
        """Adds a view; the file is written from time to time, and by `save`."""
        self._views[key] = cost
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.save()

    def save(self) -> None:
        """Writes the file atomically. Features are useful without it, so a failure is logged only."""
        rows = {
            key: [cost.regions, *astuple(cost.masks.rounded()), *astuple(cost.embeddings.rounded())]
            for key, cost in self._views.items()
        }
        try:
            with atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps(rows))
        except OSError as error:
            LOGGER.warning("The costs of the extraction could not be written to %s: %s.", self._path, error.strerror)
        self._written = time.monotonic()

    def sum(self, keys: Iterable[str]) -> ViewCost:
        """Adds up the known costs of views."""
        total = ViewCost(0, StageCost(), StageCost())
        for cost in (self._views[key] for key in dict.fromkeys(keys) if key in self._views):
            total = ViewCost(total.regions + cost.regions, total.masks + cost.masks, total.embeddings + cost.embeddings)
        return total


def _read(path: Path) -> dict[str, ViewCost]:
    if not path.is_file():
        return {}
    try:
        rows = object_of(read_json(path), "the file")
        return {key: _from_row(list_of(row, "an entry")) for key, row in rows.items()}
    except (OSError, ValueError) as error:
        LOGGER.warning("%s is damaged (%s), so the costs of the stored features are unknown.", path, error)
        return {}


def _from_row(row: list[Any]) -> ViewCost:
    """Reads what `ExtractionCosts.save` writes for a view; raises ValueError if it is something else."""
    regions = integer_of(row[0] if row else None, "the number of regions")
    costs = [number_of(value, "a cost") for value in row[1:]]
    width = len(fields(StageCost))
    if len(costs) != 2 * width:
        raise ValueError(f"found {len(costs)} costs of a view, expected {2 * width}")
    masks, embeddings = (StageCost(*part) for part in (costs[:width], costs[width:]))
    return ViewCost(regions, masks, embeddings)
