"""`gen-langsplat fetch-weights`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.console import CONSOLE

if TYPE_CHECKING:
    from genlangsplat_ns.features.published_weights import PublishedWeights


@dataclass(frozen=True, kw_only=True)
class FetchWeights:
    """Download the weights of SAM, SAM 2.1 and CLIP to where masks and encoder look for them.

    Sizes and places are shown first. An interrupted download continues, and each file is checked against its hash.
    """

    weights: Annotated[
        tuple[Literal["sam", "sam2", "openclip"], ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[{sam,sam2,openclip} ...]"),
    ] = ("sam", "openclip")
    """Models whose weights are fetched."""
    sam_model: Literal["vit_h", "vit_l", "vit_b"] = "vit_h"
    """SAM architecture. Training with another one than vit_h also needs --pipeline.datamanager.sam.model."""
    sam2_model: Literal["hiera_large", "hiera_base_plus", "hiera_small", "hiera_tiny"] = "hiera_large"
    """SAM 2.1 architecture. Training with another one than hiera_large needs --pipeline.datamanager.sam2.model."""
    mirror: Path | None = None
    """Folder to copy the files from; None takes GENLANGSPLAT_WEIGHTS_MIRROR, or downloads if that is not set."""
    yes: bool = False
    """Fetch without asking."""

    def __call__(self) -> None:
        from genlangsplat_ns.features.published_weights import (
            fetch_weights,
            published_weights,
            source_of,
            weights_mirror,
        )

        mirror = weights_mirror(self.mirror)
        models = {"sam": self.sam_model, "sam2": self.sam2_model}
        files = [published_weights(name, models.get(name)) for name in dict.fromkeys(self.weights)]
        missing = [file for file in files if not file.is_whole]
        sources = {file.name: source_of(file, mirror) for file in missing}
        for file in files:
            CONSOLE.print(escape(description(file, sources.get(file.name))), soft_wrap=True)
        if not missing:
            CONSOLE.print("All of them are on this machine, and have their published hashes.")
            return
        if not (self.yes or confirmed(sum(file.gigabytes for file in missing))):
            CONSOLE.print("Nothing was fetched.")
            return
        for file in missing:
            CONSOLE.print(escape(f"{file.name} is in {fetch_weights(file, mirror)}."), soft_wrap=True)


def description(file: PublishedWeights, source: str | None) -> str:
    """Describes what is there of a file, and what would come from where; `source` is None if it is there."""
    if source is None:
        return f"{file.name}: is there, {file.found}"
    state = "missing" if file.found is None else f"damaged, {file.found}"
    received = f", {file.received / 1e9:.2f} GB of it received" if file.received else ""
    return f"{file.name}: {state}{received}\n  {file.gigabytes:.2f} GB from {source}\n  to {file.target}"


def confirmed(gigabytes: float) -> bool:
    """Asks whether to fetch.

    Raises:
        GenLangSplatError: Nobody can answer, because the input is no terminal.
    """
    if not sys.stdin.isatty():
        raise GenLangSplatError(f"{gigabytes:.2f} GB would be fetched, and nobody can be asked. Add --yes.")
    return CONSOLE.input(f"Fetch {gigabytes:.2f} GB? (y/N) ").strip().lower() in ("y", "yes")
