"""Settings that an earlier version stored: those that it did not know have their defaults."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field

import yaml

from genlangsplat_ns.utils.stored_settings import StoredSettings


@dataclass
class Masks(StoredSettings):
    """Settings with a plain default, and with one that is made."""

    names: tuple[str, ...] = ("whole",)
    sizes: list[int] = field(default_factory=lambda: [7])


def stored_without(settings: Masks, name: str) -> Masks:
    """The settings as they are read from a file that lacks one of them."""
    document = yaml.dump(settings)
    start = document.index(f"{name}:")
    ends = [place for other in ("names:", "sizes:") if (place := document.find(other)) > start]
    return yaml.unsafe_load(document[:start] + document[min(ends, default=len(document)) :])


def test_a_setting_that_is_missing_has_its_default() -> None:
    assert stored_without(Masks(("part",), [1]), "sizes") == Masks(("part",), [7])
    assert stored_without(Masks(("part",), [1]), "names") == Masks(("whole",), [1])


def test_two_runs_do_not_share_a_default() -> None:
    one, other = (stored_without(Masks(), "sizes") for _ in range(2))
    one.sizes.append(8)
    assert other.sizes == [7]


def test_what_is_stored_stays() -> None:
    settings = Masks(("part",), [1])
    assert yaml.unsafe_load(yaml.dump(settings)) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings
