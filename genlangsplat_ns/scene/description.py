"""Describing a run: which texts of a vocabulary its groups of Gaussians answer best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.description import describe_gaussians
from genlangsplat_ns.language.memory import DecoderName
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.selection import Selection
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.run import open_run
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path, check_new_file


def describe_run(
    config_path: Path,
    query: TextQuery,
    level: str,
    num_groups: int,
    num_texts: int,
    output: Path | None,
    overwrite: bool,
    decoder: DecoderName | None = None,
) -> list[dict[str, Any]]:
    """Prints, and writes as JSON, the best texts of each group of a scene's Gaussians.

    Args:
        config_path: The run's config.yml.
        query: Its texts are the vocabulary; its negatives and temperature score them.
        level: The level whose latents are grouped.
        num_groups: How many groups to look for.
        num_texts: How many texts each group gets.
        output: JSON file; None to print only.
        overwrite: Whether it may exist.
        decoder: What decodes latents; None for what the run says.

    Raises:
        GenLangSplatError: The level is unknown, the run cannot be opened, or the file exists or cannot be written.
    """
    if level not in LEVELS:
        raise GenLangSplatError(f'Found the level "{level}"; groups are made of one of {", ".join(LEVELS)}.')
    if output is not None:
        check_new_file(output, overwrite)
    scene = open_run(config_path, decoder)
    model = scene.model
    groups = describe_gaussians(
        model.latents.detach()[:, LEVELS.index(level)],
        torch.sigmoid(model.opacities.detach()).squeeze(-1),
        scene.decode,
        scene.embed(query),
        num_groups,
        num_texts,
    )
    table = Table("Gaussians", "center", "texts", title=f"Groups at the level {level}")
    entries = []
    for group in groups:
        part = Selection(group.members, model.means.detach().cpu())
        texts = [query.texts[index] for index in group.texts]
        scored = [{"text": text, "score": round(score, 4)} for text, score in zip(texts, group.scores, strict=True)]
        entries.append({"gaussians": part.count, "centroid": part.centroid, "box": part.box, "texts": scored})
        center = ", ".join(f"{value:.2f}" for value in part.centroid or ())
        said = ", ".join(f"{item['text']} {item['score']:.2f}" for item in scored)
        table.add_row(f"{part.count:,}", center, escape(said))
    CONSOLE.print(table)
    if output is not None:
        with atomic_path(output) as path:
            document = {"level": level, "negatives": query.negatives, "groups": entries}
            path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
    return entries
