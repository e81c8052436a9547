"""Splits the photographs of a scene into training views and held-out views."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from nerfstudio.data.utils.dataparsers_utils import (
    get_train_eval_split_all,
    get_train_eval_split_filename,
    get_train_eval_split_fraction,
    get_train_eval_split_interval,
)

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.posed_scene import SplitName, format_option, join_names

LOGGER = logging.getLogger(__name__)

EvalMode = Literal["fraction", "filename", "interval", "all"]


def split_indices(
    paths: Sequence[Path], split: SplitName, lists: Mapping[SplitName, Sequence[str]], settings: Any
) -> list[int]:
    """Returns the indices of the photographs of a split.

    Lists in the data override the settings. The validation and the test list stand in for each other. Without a list
    of training views, all views that are not held out train; without another list, all that do not train are held out.
    The settings have `eval_mode`, `train_split_fraction` and `eval_interval`.

    Raises:
        GenLangSplatError: No listed photograph exists, none is left for training, or the file names do not show the
            split.
    """
    if lists:
        return _listed(paths, split, lists)
    train, held_out = _by_settings(paths, settings)
    if not train:
        # A single view has the index 0, which an interval holds out.
        train, held_out = held_out, []
    return train if split == "train" else held_out


def _by_settings(paths: Sequence[Path], settings: Any) -> tuple[list[int], list[int]]:
    files: list[Any] = list(paths)
    if settings.eval_mode == "fraction":
        indices = get_train_eval_split_fraction(files, settings.train_split_fraction)
    elif settings.eval_mode == "interval":
        indices = get_train_eval_split_interval(files, settings.eval_interval)
    elif settings.eval_mode == "all":
        indices = get_train_eval_split_all(files)
    else:
        unclear = [path.name for path in paths if "train" not in path.name and "eval" not in path.name]
        if unclear:
            raise GenLangSplatError(
                f"The file names do not show the split: found {join_names(unclear)}; with the eval mode filename, each "
                f'expected "train" or "eval" in its name. Choose another: {format_option("--eval-mode fraction")}.'
            )
        indices = get_train_eval_split_filename(files)
    train, held_out = (np.asarray(part, dtype=int).tolist() for part in indices)
    return train, held_out


def _listed(paths: Sequence[Path], split: SplitName, lists: Mapping[SplitName, Sequence[str]]) -> list[int]:
    found = {name: _matching(paths, names, name) for name, names in lists.items()}
    everything = range(len(paths))
    held_out = [name for name in ("val", "test") if name in found]
    excluded = {index for name in held_out for index in found[name]}
    if split == "train" and "train" in found:
        unused = [paths[index].name for index in everything if index not in excluded.union(found["train"])]
        if held_out and unused:
            LOGGER.info("%d photographs are in no list and are not used: %s.", len(unused), join_names(unused))
    elif split == "train":
        found["train"] = [index for index in everything if index not in excluded]
        if not found["train"]:
            raise GenLangSplatError(
                f"The lists of held-out photographs ({' and '.join(held_out)}) have all {len(paths)} photographs, so "
                "none is left for training. Correct the lists, or remove them."
            )
    elif not held_out:
        return [index for index in everything if index not in found["train"]]
    return found[split if split in found else held_out[0]]


def _matching(paths: Sequence[Path], names: Sequence[str], split: str) -> list[int]:
    """Returns the indices of the listed photographs, and logs names that no photograph has."""
    by_key: dict[str, set[int]] = {}
    for index, path in enumerate(paths):
        for key in _keys(path):
            by_key.setdefault(key, set()).add(index)
    indices: set[int] = set()
    unmatched: list[str] = []
    ambiguous: list[str] = []
    for name in names:
        # The longest ending of the path that only one photograph has.
        known = [by_key[key] for key in _keys(PurePosixPath(name.strip().replace("\\", "/"))) if key in by_key]
        matches = next((found for found in known if len(found) == 1), None)
        if matches is not None:
            indices |= matches
        elif known:
            ambiguous.append(f"{name} ({' or '.join(str(paths[index]) for index in sorted(known[0])[:2])})")
        else:
            unmatched.append(name)
    if ambiguous:
        raise GenLangSplatError(
            f"{len(ambiguous)} names in the list of the split {split} fit several photographs: "
            f"{join_names(ambiguous)}. Add their folders to the names."
        )
    if names and not indices:
        raise GenLangSplatError(
            f"None of the {len(names)} photographs in the list of the split {split} is in the scene: "
            f"{join_names(names)}; its photographs are {join_names(paths)}. Correct the list, or remove it."
        )
    if unmatched:
        LOGGER.warning(
            "%d of %d photographs in the list of the split %s are not in the scene: %s.",
            *(len(unmatched), len(names), split, join_names(unmatched)),
        )
    return sorted(indices)


def _keys(path: Path | PurePosixPath) -> list[str]:
    """Returns the endings of a path, the longest first, with and without the suffix of the file."""
    parts = [part for part in path.parts if part not in ("/", ".", "..")]
    endings = ["/".join(parts[start:]) for start in range(len(parts))]
    return [key for ending in endings for key in (ending, str(PurePosixPath(ending).with_suffix("")))]
