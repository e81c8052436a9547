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
from genlangsplat_ns.views.posed_scene import SplitName, join_names

LOGGER = logging.getLogger(__name__)

EvalMode = Literal["fraction", "filename", "interval", "all"]


def split_indices(
    paths: Sequence[Path], split: SplitName, lists: Mapping[SplitName, Sequence[str]], settings: Any
) -> list[int]:
    """Returns the indices of the photographs of a split.

    Lists in the data override the settings. The validation and the test list stand in for each other, and photographs
    without a list train. A scene always has a training view.

    Args:
        paths: The photographs, in order.
        split: The split; `val` and `test` are held out.
        lists: Names of the photographs of each split.
        settings: Has `eval_mode`, `train_split_fraction` and `eval_interval`.

    Raises:
        GenLangSplatError: No listed photograph exists, or the file names do not show the split.
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
                'expected "train" or "eval" in its name. Choose another --eval-mode.'
            )
        indices = get_train_eval_split_filename(files)
    train, held_out = (np.asarray(part, dtype=int).tolist() for part in indices)
    return train, held_out


def _listed(paths: Sequence[Path], split: SplitName, lists: Mapping[SplitName, Sequence[str]]) -> list[int]:
    found = {name: _matching(paths, names, name) for name, names in lists.items()}
    if split == "train" and "train" in found:
        return found["train"]
    everything = range(len(paths))
    held_out = [name for name in ("val", "test") if name in found]
    if split == "train":
        excluded = {index for name in held_out for index in found[name]}
        return [index for index in everything if index not in excluded]
    if not held_out:
        return [index for index in everything if index not in found["train"]]
    return found[split if split in found else held_out[0]]


def _matching(paths: Sequence[Path], names: Sequence[str], split: str) -> list[int]:
    """Returns the indices of the listed photographs, and logs names that no photograph has."""
    keys = [_keys(path) for path in paths]
    by_key: dict[str, set[int]] = {}
    for index, key in ((index, key) for index, own in enumerate(keys) for key in own):
        by_key.setdefault(key, set()).add(index)
    indices: set[int] = set()
    unmatched = []
    for name in names:
        path = PurePosixPath(name.strip().replace("\\", "/"))
        # The longest ending of the path that only one photograph has.
        matches = next((by_key[key] for key in _keys(path) if len(by_key.get(key, ())) == 1), None)
        if matches is None:
            unmatched.append(name)
        else:
            indices |= matches
    if names and not indices:
        raise GenLangSplatError(
            f"None of the {len(names)} photographs in the list of the split {split} is in the scene: "
            f"{join_names(names)}; its photographs are {join_names([path.name for path in paths])}. Correct the list, "
            "or remove it."
        )
    if unmatched:
        LOGGER.warning(
            "%d of %d photographs in the list of the split %s are not in the scene: %s.",
            len(unmatched),
            len(names),
            split,
            join_names(unmatched),
        )
    return sorted(indices)


def _keys(path: Path | PurePosixPath) -> list[str]:
    """Returns the endings of a path, the longest first, with and without the suffix of the file."""
    parts = [part for part in path.parts if part not in ("/", ".", "..")]
    endings = ["/".join(parts[start:]) for start in range(len(parts))]
    return [key for ending in endings for key in (ending, str(PurePosixPath(ending).with_suffix("")))]
