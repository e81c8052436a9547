"""The figures of the documents, each drawn from the rows of one benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from support.benchmark import Row
from support.composed_report import chosen, mean_of
from support.language_race import ADAM, ANEW, variant_of
from support.language_race_report import QUALITIES, best_of, stops_of, title_of
from support.rgb_step import PARTS, USUAL_COUNT, USUAL_SIZE, fit_memory


def draw_widths(rows: Sequence[Row]) -> Figure:
    """Draws mean IoU over the width of latents: composed scenes with their spread, and the fox scene."""
    fox = chosen(rows, part="fox")
    figure = Figure(figsize=(10 if fox else 5.5, 4), layout="tight")
    axes = figure.subplots(1, 2 if fox else 1, squeeze=False)
    panel = axes[0, 0]
    scenes = chosen(rows, part="scene")
    for code, decoder, color in (
        ("images", "memory", "tab:blue"),
        ("projection", "memory", "tab:green"),
        ("images", "autoencoder", "tab:red"),
    ):
        own = chosen(scenes, code=code, decoder=decoder)
        if (code, decoder) == ("images", "memory"):
            own += chosen(scenes, code="none", decoder="memory")
        label = {"memory": f"{code}, memory", "autoencoder": f"{code}, its decoder"}[decoder]
        _draw_spread(panel, own, color, label)
    raw = chosen(scenes, code="none", decoder="autoencoder")
    panel.axhline(mean_of(raw, "miou"), color="gray", linestyle="--", label="512 dimensions, no memory")
    title = f"{len({row['seed'] for row in scenes})} composed scenes: mean, least and most"
    _finish(panel, title, sorted({row["latent_dim"] for row in scenes}))
    if fox:
        for protocol, style in zip(dict.fromkeys(row["protocol"] for row in fox), ("-", ":"), strict=True):
            for decoder, color in (("memory", "tab:green"), ("autoencoder", "tab:red")):
                own = chosen(fox, protocol=protocol, decoder=decoder)
                own = [row for row in own if row["code"].startswith("projection")]
                label = f"projection, {'memory' if decoder == 'memory' else 'its decoder'}, {protocol}"
                _draw_spread(axes[0, 1], own, color, label, style)
        _finish(axes[0, 1], "fox, six texts, embedded encoder", sorted({row["latent_dim"] for row in fox}))
    return figure


def _draw_spread(panel: Axes, rows: list[Row], color: str, label: str, style: str = "-") -> None:
    widths = sorted({row["latent_dim"] for row in rows})
    by_width = [[row["miou"] for row in chosen(rows, latent_dim=width)] for width in widths]
    panel.plot(widths, [statistics.mean(values) for values in by_width], style, color=color, marker="o", label=label)
    panel.fill_between(
        widths, [min(values) for values in by_width], [max(values) for values in by_width], color=color, alpha=0.12
    )


def _finish(panel: Axes, title: str, widths: list[int]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(widths, [str(width) for width in widths])
    panel.set(xlabel="latent dimensions", ylabel="mean IoU", title=title, ylim=(0, 1))
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)


def draw_race(rows: Sequence[Row]) -> Figure:
    """Draws quality of lifting and of Adam over processor time: a column per scene, a row per figure."""
    races = [row for row in rows if "curves" in row]
    names = list(dict.fromkeys(curve["name"] for scene in races for curve in scene["curves"]))
    figure = Figure(figsize=(4.6 * len(races), 7.2), layout="tight")
    grid = figure.subplots(2, len(races), squeeze=False)
    for scene, column in zip(races, grid.T, strict=True):
        axes: Axes
        for axes, key in zip(column, ("cosine", "miou"), strict=True):
            key = "lang_cosine" if key == "cosine" and key not in scene["lifts"][0] else key
            if key not in scene["lifts"][0]:
                axes.set_axis_off()
                continue
            for curve in (curve for curve in scene["curves"] if curve["solver"] != ANEW):
                stops = stops_of([curve], key)
                style = "-" if variant_of(curve) == ADAM else "--"
                points = [stop.seconds for stop in stops], [stop.value for stop in stops]
                color = f"C{names.index(curve['name'])}"
                axes.plot(*points, style, color=color, label=f"Adam, {curve['name']}", linewidth=1.2)
            for lift, mark in zip(scene["lifts"], "o*", strict=True):
                label = f"lifting, {lift['solver']}"
                axes.plot(lift["seconds"], lift[key], mark, label=label, color="black", markersize=9)
            tops = [best_of([curve], key).value for curve in scene["curves"]] + [lift[key] for lift in scene["lifts"]]
            limits = min(tops) - 0.12, max(tops) + 0.015
            axes.set(xscale="log", ylim=limits, ylabel=QUALITIES[key], xlabel="processor seconds")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.3)
        column[0].set_title(title_of(scene), fontsize=9)
        column[0].legend(fontsize=6, loc="lower right", framealpha=0.6)
    return figure


def draw_training(rows: Sequence[Row]) -> Figure:
    """Draws step time over Gaussians and pixels, with lines of proportional cost, and memory over Gaussians."""
    by_count = [row for row in rows if (row["height"], row["width"]) == USUAL_SIZE]
    by_size = [row for row in rows if row["gaussians"] == USUAL_COUNT]
    counts = [row["gaussians"] for row in by_count]
    pixels = [row["height"] * row["width"] for row in by_size]
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, x, own, label in ((axes[0], counts, by_count, "Gaussians"), (axes[1], pixels, by_size, "pixels")):
        order = np.argsort(x)
        x, own = [x[place] for place in order], [own[place] for place in order]
        steps = [row["step"]["median_ms"] for row in own]
        axis.loglog(x, steps, "o-", color="black", label="step")
        for part in PARTS:
            axis.loglog(x, [row["parts"][part]["median_ms"] for row in own], ".-", alpha=0.7, label=part)
        axis.loglog(x, [steps[0] * value / x[0] for value in x], "--", color="gray", label="proportional")
        axis.set(xlabel=label, ylabel="milliseconds")
    axes[0].legend(fontsize="small")
    slope, start, _ = fit_memory(by_count)
    axes[2].plot(counts, [row["peak_memory_gb"] for row in by_count], "o", color="black", label="peak")
    axes[2].plot(counts, [(start + slope * count) / 1e9 for count in counts], "--", color="gray", label="line")
    axes[2].set(xlabel="Gaussians", ylabel="peak memory in GB", ylim=(0, None))
    axes[2].legend(fontsize="small")
    return figure
