"""Paths in config.yml: of another operating system, of another Python version, and of folders that were moved."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from genlangsplat_ns.errors import GenLangSplatError

PATH_TAGS = tuple(
    f"tag:yaml.org,2002:python/object/apply:{module}.{name}"
    for module in ("pathlib", "pathlib._local")
    for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
)
"""Tags of paths in YAML; Python 3.13 writes those of `pathlib._local`."""

LEVELS_UP = 5
"""Number of folders around a run in which its data are searched for: nerfstudio's `outputs/SCENE/METHOD/TIME` lies four
deep. Far folders, such as /data, may hold other data of that name."""


def allow_paths_of_other_systems() -> None:
    """Makes `yaml.Loader`, which nerfstudio reads config.yml with, build every stored path as a path of this machine.

    Otherwise Linux cannot open a config.yml written on Windows, or by a newer Python, and the other way round.
    """
    for loader in (yaml.Loader, yaml.UnsafeLoader):
        for tag in PATH_TAGS:
            loader.add_constructor(tag, construct_path)


def construct_path(loader: Any, node: yaml.Node) -> Path:
    """Builds a path of this machine from its YAML node, whose tag names the class and whose items are its parts."""
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.constructor.ConstructorError(None, None, "expected the list of a path's parts", node.start_mark)
    parts = loader.construct_sequence(node)
    if not all(isinstance(part, str) for part in parts):
        raise yaml.constructor.ConstructorError(None, None, "expected texts as the parts of a path", node.start_mark)
    return Path(PureWindowsPath(*parts).as_posix()) if "Windows" in node.tag else Path(*parts)


def opened_config(arguments: Sequence[str] | None = None) -> Path | None:
    """Returns the config.yml that a nerfstudio command opens, by the command line, or that of this process.

    ns-eval, ns-viewer, ns-render and ns-export look for checkpoints where config.yml says that they were written, and
    do not tell a method where config.yml lies. None for ns-train and other programs.
    """
    arguments = sys.argv if arguments is None else arguments
    if nerfstudio_command(arguments) in (None, "train"):
        return None
    for word, following in zip(arguments[1:], [*arguments[2:], None], strict=True):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == "--load-config" and (equals or following is not None):
            return Path(value if equals else str(following))
    return None


def nerfstudio_command(arguments: Sequence[str] | None = None) -> str | None:
    """Returns the command of nerfstudio that this process is, such as `eval` for ns-eval; None for other programs."""
    arguments = sys.argv if arguments is None else arguments
    program = Path(arguments[0] if arguments else "")
    if program.stem.startswith("ns-"):
        return program.stem.removeprefix("ns-")
    # python -m nerfstudio.scripts.eval
    scripts = "nerfstudio/scripts/" in program.as_posix()
    return {"run_viewer": "viewer", "exporter": "export"}.get(program.stem, program.stem) if scripts else None


def find_moved(stored: Path, run_folder: Path, written_to: Path) -> Path:
    """Finds data that the config.yml of a moved run names by a relative path, `stored`.

    The path was relative to the folder that the training ran in. That folder is known if the run still lies in it,
    below `written_to`, the folder of the run by config.yml; otherwise it may be the working directory or one of the
    nearest `LEVELS_UP` folders around the run.

    Returns:
        The path where the data lies; `stored` itself if it is absolute or nothing is found.

    Raises:
        GenLangSplatError: Several folders around the run hold such data.
    """
    if stored.is_absolute():
        return stored
    run_folder = run_folder.resolve()
    started_in = _without_end(run_folder, written_to)
    if started_in is not None and exists(started_in / stored):
        return started_in / stored
    if exists(stored):
        return stored
    found = dict.fromkeys(
        folder / stored
        for folder in (run_folder, *run_folder.parents[:LEVELS_UP])
        # A folder of the runs may have the name of the data.
        if exists(folder / stored) and (folder / stored).resolve() not in (run_folder, *run_folder.parents)
    )
    if len(found) > 1:
        raise GenLangSplatError(
            f"The run in {run_folder} was trained on {stored}, and there are several: {', '.join(map(str, found))}. "
            "Give the right one with --data, or run the command in the folder that the path is relative to."
        )
    return next(iter(found), stored)


def require_data(data: Path) -> None:
    """Raises an error if the data of an opened run are not there."""
    if not exists(data):
        raise GenLangSplatError(
            f"The data of the run do not exist at {data}. Give the folder where they are now: gen-langsplat commands "
            "take it as --data FOLDER; for nerfstudio's commands, most of which have no such option, link it to the "
            f"old path: `mkdir -p {shlex.quote(str(data.parent))} && ln -s /PATH/TO/FOLDER {shlex.quote(str(data))}`."
        )


def exists(path: Path) -> bool:
    """Whether a path exists and may be looked at, which is not the case for the files of some other users."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _without_end(path: Path, end: Path) -> Path | None:
    """Returns the folder to which the relative path `end` leads to `path`; None if there is none."""
    if end.is_absolute() or path.parts[-len(end.parts) :] != end.parts:
        return None
    return path.parents[len(end.parts) - 1]
