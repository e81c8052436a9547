"""The published weights of SAM ViT-H and CLIP ViT-B-16: what is there, and fetching the rest by its hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genlangsplat_ns.commands.fetch_weights import description
from genlangsplat_ns.features.published_weights import (
    PublishedWeights,
    fetch_weights,
    published_weights,
    source_of,
    weights_mirror,
)

NAMES: tuple[Literal["sam", "openclip"], ...] = ("sam", "openclip")


@dataclass(frozen=True)
class NeededWeights:
    """The weights of the check."""

    files: tuple[PublishedWeights, ...]
    missing: tuple[PublishedWeights, ...]
    """Those that are not on this machine, or do not have their published hash."""
    mirror: Path | None
    """Folder from which they are copied; None downloads them."""

    @property
    def gigabytes(self) -> float:
        """Of the missing files."""
        return sum(file.gigabytes for file in self.missing)

    def describe(self) -> str:
        """One line or three for each file: where it is, or from where and whereto it will come."""
        return "\n".join(
            description(file, source_of(file, self.mirror) if file in self.missing else None) for file in self.files
        )

    def fetch(self) -> list[Path]:
        """Fetches the missing files; an interrupted download continues.

        Raises:
            GenLangSplatError: A file is not to be had, or does not have its published hash.
        """
        return [fetch_weights(file, self.mirror) for file in self.missing]


def needed_weights(mirror: Path | None = None) -> NeededWeights:
    """Looks for the weights on this machine, and reads all of them to check their hashes.

    Args:
        mirror: Folder with the files; None takes that of the environment variable, or the network.

    Raises:
        GenLangSplatError: The mirror is no folder, or lacks a missing file.
    """
    files = tuple(published_weights(name) for name in NAMES)
    missing, place = tuple(file for file in files if not file.is_whole), weights_mirror(mirror)
    for file in missing:
        source_of(file, place)
    return NeededWeights(files, missing, place)
