"""Whether a run may be opened: who owns its folder, and which objects its config.yml would create.

nerfstudio reads config.yml with a loader that creates and calls whatever the file names. So the file is looked at
before, as a stream of YAML events, of which none is ever constructed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from genlangsplat_ns.errors import GenLangSplatError

LOGGER = logging.getLogger(__name__)

PACKAGES = ("nerfstudio", "genlangsplat_ns", "torch", "pathlib", "collections")
"""Packages whose classes a config.yml may name."""

WITH_FUNCTIONS = ("nerfstudio", "genlangsplat_ns")
"""Of these, packages whose functions it may name too, but not call: nerfstudio names one that joins batches."""

PYTHON = "tag:yaml.org,2002:python/"
"""Beginning of the tags by which YAML names Python objects."""

PLAIN = ("none", "bool", "str", "unicode", "bytes", "int", "long", "float", "complex", "list", "tuple", "dict")
"""Tags of values that run nothing."""

MAX_BYTES = 100_000
"""A larger config.yml is none; real ones have some 20 kB."""

MAX_DEPTH = 100
"""Deeper ones are none either: the time of PyYAML grows with the square of the depth."""

SHOWN = 3


def reasons_for_distrust(config_path: Path) -> list[str]:
    """Returns why a run should not be opened, one clause per reason; nothing if there is none.

    Raises:
        GenLangSplatError: The file cannot be read or is no YAML.
    """
    owners = [_owner_problem(path) for path in (config_path.resolve().parent, config_path)]
    text = read_text(config_path)
    try:
        foreign = foreign_names(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GenLangSplatError(f"{config_path} is no YAML ({reason}). Give the file that ns-train wrote.") from error
    reasons = [next((owner for owner in owners if owner is not None), None)]
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        reasons.append(f"its config.yml names {', '.join(foreign[:SHOWN])}{more}, which opening it would run")
    return [reason for reason in reasons if reason is not None]


def require_trusted(config_path: Path) -> None:
    """Refuses a run that should not be opened, before anything of it is loaded.

    Raises:
        GenLangSplatError: Another user owns it, or its config.yml names objects that runs of nerfstudio do not have.
    """
    reasons = reasons_for_distrust(config_path)
    if reasons:
        raise GenLangSplatError(
            f"{config_path} is refused by --safe: {'; '.join(reasons)}. Look at the file, and omit --safe if you trust "
            "who made it; expected a run of your own."
        )


def warn_of_distrust(config_path: Path) -> None:
    """Logs why a run should not be opened; once for each run.

    Raises:
        GenLangSplatError: Its config.yml cannot be read or is no YAML.
    """
    _warn(config_path.resolve())


@cache
def _warn(config_path: Path) -> None:
    reasons = reasons_for_distrust(config_path)
    if reasons:
        LOGGER.warning(
            "Opening %s may run code of others: %s. Open only runs of people you trust; gen-langsplat ... --safe "
            "refuses such runs.",
            *(config_path, "; ".join(reasons)),
        )


def foreign_names(text: str) -> list[str]:
    """Returns the Python objects in a YAML text that no run of nerfstudio has, without creating any.

    Raises:
        yaml.YAMLError, ValueError: The text is no YAML, or its lists and tables are too deep in each other.
    """
    tags = list(_tags(text))
    named = dict.fromkeys(tag.removeprefix(PYTHON) for tag in tags if tag is not None and tag.startswith(PYTHON))
    return [name.partition(":")[2] or name for name in named if not _is_usual(name)]


def _tags(text: str) -> Iterator[str | None]:
    """Yields the tags in a YAML text, in its order.

    Raises:
        ValueError: Its lists and tables are too deep in each other.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it has more than {MAX_DEPTH} lists in each other")
        yield getattr(event, "tag", None)


def _is_usual(tag: str) -> bool:
    """Whether a tag without its beginning, such as `object:package.Class`, is one of runs of nerfstudio."""
    kind, _, name = tag.partition(":")
    if kind in PLAIN:
        return True
    package, *modules, last = name.split(".") if "." in name else (name, "")
    if kind not in ("object", "object/new", "object/apply", "name") or package not in PACKAGES:
        return False
    if any(module[:1].isupper() for module in modules):
        # A method of a class, such as pathlib.Path.unlink.
        return False
    return last[:1].isupper() or (kind == "name" and package in WITH_FUNCTIONS)


def _owner_problem(path: Path) -> str | None:
    """Returns whose a file or folder is, if it belongs neither to this user nor to the administrator."""
    if not hasattr(os, "getuid"):
        return None
    try:
        owner = path.stat().st_uid
    except OSError:
        return None
    return None if owner in (os.getuid(), 0) else f"{path} belongs to {_user_name(owner)}, not to you"


def _user_name(number: int) -> str:
    import pwd

    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user with the number {number}"


def read_text(config_path: Path) -> str:
    """Reads a config.yml.

    Raises:
        GenLangSplatError: It cannot be read, is far larger than real ones, or is not in UTF-8.
    """
    try:
        size = config_path.stat().st_size
        if size > MAX_BYTES:
            raise GenLangSplatError(
                f"{config_path} has {size:,} bytes; expected the config.yml that ns-train wrote, of at most "
                f"{MAX_BYTES:,}. Give that file."
            )
        return config_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GenLangSplatError(
            f"{config_path} cannot be read ({error}). Expected the config.yml that ns-train wrote; give that file."
        ) from error
