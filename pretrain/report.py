"""Prints and stores measurements, and says whether an autoencoder should be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.language.autoencoder import save_autoencoder
from genlangsplat_ns.utils.console import CONSOLE
from pretrain.fidelity import Figures
from pretrain.training import TrainingResult

COLLAPSED = 0.05
"""Latent spread below which the latents have collapsed: a few steps of an 8-bit number."""


def problem_of(figures: Mapping[str, float]) -> str | None:
    """Returns why an autoencoder with these figures should not be used, or None.

    Its latents must differ from each other, and it must reconstruct clearly more than the mean of the embeddings: at
    least half of what as many principal components keep.
    """
    if figures["latent spread"] < COLLAPSED:
        return (
            f"its latents collapsed: their distance from their mean is {figures['latent spread']:.2g}, expected at "
            f"least {COLLAPSED}"
        )
    if figures["cosine"] <= figures["constant"] or figures["centered cosine"] < figures["PCA centered"] / 2:
        return (
            f"it is unfaithful: its cosine is {figures['cosine']:.3f} ({figures['centered cosine']:.3f} without the "
            f"mean), a constant has {figures['constant']:.3f}, and a PCA of the same width {figures['PCA cosine']:.3f} "
            f"({figures['PCA centered']:.3f})"
        )
    return None


def show_table(title: str, heading: str, rows: Mapping[str, Figures]) -> None:
    """Prints a table of measurements; all rows must have the same figures."""
    columns = list(next(iter(rows.values())))
    table = Table(escape(heading), *map(escape, columns), title=escape(title))
    for name, row in rows.items():
        cells = (f"{row[column]:.2e}" if column == "mse" else f"{row[column]:.3f}" for column in columns)
        table.add_row(escape(name), *cells)
    CONSOLE.print(table)


def show_fidelity(title: str, heading: str, rows: Mapping[str, Figures]) -> None:
    """Prints a table of measurements of autoencoders, and warnings for unusable ones."""
    show_table(title, heading, rows)
    for name, row in rows.items():
        if (problem := problem_of(row)) is not None:
            CONSOLE.print(f"[yellow]{escape(name)}: {problem}.")


def save_measured(output: Path, result: TrainingResult, rows: Mapping[str, Figures]) -> None:
    """Saves a trained autoencoder with its measurements, and prints these; the first row is the one that counts."""
    figures = {f"{name}: {key}": round(value, 4) for name, row in rows.items() for key, value in row.items()}
    main = next(iter(rows.values()))
    identity = replace(result.autoencoder.identity, held_out_cosine=round(main["cosine"], 4), figures=figures)
    result.autoencoder.identity = identity
    save_autoencoder(output, result.autoencoder)
    show_fidelity(f"{identity.name}, {result.seconds:.0f} s, best at step {result.best_step}", "embeddings", rows)
    CONSOLE.print(closing_line(output, main))


def closing_line(output: Path, figures: Figures) -> str:
    """Returns how to use a trained autoencoder, or why not to."""
    problem = problem_of(figures)
    if problem is None:
        return f"Wrote {escape(str(output))}. Use it with --pipeline.model.autoencoder {escape(str(output))}."
    return (
        f"[yellow]Wrote {escape(str(output))}, but do not use it: {problem}. Train with more steps, more scenes or "
        "another learning rate."
    )
