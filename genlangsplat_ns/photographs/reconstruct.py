"""From prepared photographs to cameras, in stages that go on where they were interrupted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genlangsplat_ns.photographs.lens_groups import LensGroup, group_by_lens
from genlangsplat_ns.photographs.outcome import Outcome, judge
from genlangsplat_ns.photographs.pairs import Pair, exhaustive_pairs, in_tiles, sequential_pairs, spatial_pairs
from genlangsplat_ns.photographs.prepare import PreparedPhotograph
from genlangsplat_ns.photographs.scene_file import SCENE_FILE, write_scene
from genlangsplat_ns.photographs.settings import Matching, PhotographSettings
from genlangsplat_ns.photographs.similar import similar_pairs
from genlangsplat_ns.photographs.solver import CameraSolver, name_pair
from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.json_files import integer_of, object_of, read_json, text_of
from genlangsplat_ns.utils.progress import progress_bar

LOGGER = logging.getLogger(__name__)

EXHAUSTIVE_UP_TO = 150
"""Largest number of photographs that are all compared with each other by default."""

IMAGES, MASKS, WORK = "images", "masks", "colmap"
"""Folders in the scene."""

MakeSolver = Callable[[Path, Path, Path], CameraSolver]
"""Makes a solver from its database, the folder of photographs and that of masks."""


@dataclass(frozen=True)
class SceneFolder:
    """Where a scene has its files."""

    root: Path

    @property
    def images(self) -> Path:
        """Folder of the photographs."""
        return self.root / IMAGES

    @property
    def masks(self) -> Path:
        """Folder of the masks."""
        return self.root / MASKS

    @property
    def work(self) -> Path:
        """Folder of what is kept between calls, and of COLMAP's models."""
        return self.root / WORK

    @property
    def database(self) -> Path:
        """COLMAP's database."""
        return self.work / "database.db"

    @property
    def models(self) -> Path:
        """COLMAP's models."""
        return self.work / "sparse"

    @property
    def state(self) -> Path:
        """What the database was made from."""
        return self.work / "state.json"

    @property
    def outcome(self) -> Path:
        """The last outcome."""
        return self.work / "outcome.json"


def reconstruct(
    photographs: Sequence[PreparedPhotograph],
    folder: SceneFolder,
    settings: PhotographSettings,
    video: bool,
    make_solver: MakeSolver,
) -> Outcome:
    """Finds the cameras of photographs in the scene, and writes transforms.json and seed points as the last step.

    Raises:
        GenLangSplatError: No photograph could be given a camera.
    """
    matching = _matching(settings.matching, len(photographs), video)
    wanted = {
        "features": {"lens": settings.lens, "intrinsics": settings.intrinsics, "max_features": settings.max_features},
        "matching": matching,
        "photographs": {item.name: item.digest for item in photographs},
    }
    solved = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    state = _read_state(folder.state)
    known = read_outcome(folder.outcome)
    if state.get("solved") == solved and (folder.root / SCENE_FILE).is_file() and known is not None:
        LOGGER.info("The cameras of these photographs are known already.")
        return known
    (folder.root / SCENE_FILE).unlink(missing_ok=True)
    # A folder without transforms.json that has former models would be read as a scene of COLMAP.
    shutil.rmtree(folder.models, ignore_errors=True)
    state = _start(folder, state, wanted)
    solver = make_solver(folder.database, folder.images, folder.masks)
    groups = group_by_lens(photographs, settings.intrinsics, settings.lens)
    _extract(solver, groups, settings.max_features, folder.state, state)
    names = [item.name for item in photographs]
    _match(solver, names, _pairs(solver, photographs, matching))
    with progress_bar("Finding cameras", len(names)) as bar:
        models = solver.solve(names, folder.models, lambda count: bar.move_to(min(count, len(names))))
    outcome = judge(photographs, solver.features(), solver.matched(), models)
    _write_json(folder.outcome, outcome.to_json())
    masks = {item.name: f"{MASKS}/{item.mask}" for item in photographs if item.mask is not None}
    write_scene(folder.root, models[0], IMAGES, masks)
    _write_json(folder.state, {**state, "solved": solved})
    return outcome


def _matching(matching: Matching, count: int, video: bool) -> Matching:
    """Returns what `auto` means for photographs or frames of a video."""
    if matching != "auto":
        return matching
    return "sequential" if video or count > EXHAUSTIVE_UP_TO else "exhaustive"


def _start(folder: SceneFolder, state: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Keeps the database if it has nothing wrong in it, else removes it; returns the state with which work starts."""
    former, now = state.get("photographs", {}), wanted["photographs"]
    changed = [name for name, digest in former.items() if now.get(name, digest) != digest]
    usable = folder.database.is_file() and state.get("features") == wanted["features"] and not changed
    if state and not usable:
        LOGGER.info("Photographs or settings have changed, so features are extracted again.")
    elif added := set(now) - set(former) if state else None:
        LOGGER.info("%d photographs were added; what is known about the others is kept.", len(added))
    if usable:
        # Photographs that were removed stay in the database, so a change of them has to be noticed later.
        kept = {**former, **now}
        start = {"features": wanted["features"], "photographs": kept, "lenses": state.get("lenses", {})}
        _write_json(folder.state, start)
        return start
    for path in folder.work.glob("database.db*"):
        path.unlink()
    fresh = {"features": wanted["features"], "photographs": dict(now), "lenses": {}}
    _write_json(folder.state, fresh)
    return fresh


def _extract(
    solver: CameraSolver, groups: Sequence[LensGroup], max_features: int, path: Path, state: dict[str, Any]
) -> None:
    """Extracts missing features, a few photographs at a time."""
    known = solver.features()
    lenses: dict[str, int] = state["lenses"]
    total = sum(len(group.names) for group in groups)
    done = sum(name in known for group in groups for name in group.names)
    step = 2 * (os.cpu_count() or 1)
    with progress_bar("Extracting features", total, done) as bar:
        for group in groups:
            if group.key not in lenses:
                lenses[group.key] = solver.add_lens(group)
                _write_json(path, state)
            missing = [name for name in group.names if name not in known]
            for start in range(0, len(missing), step):
                batch = missing[start : start + step]
                solver.extract(batch, lenses[group.key], max_features)
                bar.advance(len(batch))
    _write_json(path, state)


def _pairs(solver: CameraSolver, photographs: Sequence[PreparedPhotograph], matching: Matching) -> set[Pair]:
    """Returns the pairs to compare, as indices."""
    if matching == "exhaustive":
        return exhaustive_pairs(len(photographs))
    pairs = spatial_pairs([item.shot.position for item in photographs])
    if matching == "sequential":
        pairs |= sequential_pairs(len(photographs))
    known = solver.features()
    LOGGER.info("Looking for similar photographs.")
    nothing = np.zeros((0, 128), np.uint8)
    names = [item.name for item in photographs]
    return pairs | similar_pairs([solver.descriptors(name) if name in known else nothing for name in names])


def _match(solver: CameraSolver, names: Sequence[str], pairs: set[Pair]) -> None:
    """Compares the pairs that were not compared yet, a few at a time."""
    by_name = {name_pair(names[first], names[second]): (first, second) for first, second in pairs}
    known = solver.compared(list(by_name))
    missing = {pair for name, pair in by_name.items() if name not in known}
    with progress_bar("Matching pairs", len(pairs), len(pairs) - len(missing)) as bar:
        for tile in in_tiles(missing):
            solver.match([(names[first], names[second]) for first, second in tile])
            bar.advance(len(tile))


def _read_state(path: Path) -> dict[str, Any]:
    """Reads what the database was made from; an absent or damaged file is empty, so that the work is done again."""
    try:
        state = object_of(read_json(path), "the file")
        digests = object_of(state.get("photographs", {}), "photographs")
        lenses = object_of(state.get("lenses", {}), "lenses")
        state["photographs"] = {name: text_of(value, name) for name, value in digests.items()}
        state["lenses"] = {name: integer_of(value, name) for name, value in lenses.items()}
    except (OSError, ValueError):
        return {}
    return state


def read_outcome(path: Path) -> Outcome | None:
    """Reads the last outcome; None if the file is absent or damaged, so that the work is done again."""
    try:
        return Outcome.from_json(read_json(path))
    except (OSError, ValueError):
        return None


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
