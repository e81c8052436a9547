"""The page of a run's report: figures, health, costs of the stages, the curve of training, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.evaluation.page import Page, Picture, data_uri, definitions, percent, write_page
from genlangsplat_ns.features.preview import paint_regions
from genlangsplat_ns.language.decoding import has_latent
from genlangsplat_ns.language.visualize import LatentPca
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.health import MEANINGS
from genlangsplat_ns.scene.cost_table import duration
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.measured_views import MeasuredView

NUM_SHOWN = 3
"""Number of views with pictures."""

SHOWN_LEVEL = LEVELS.index("whole")
"""The level of the latents and regions in the pictures."""

CURVE_SIZE = 640, 160
"""Width and height of the curve in pixels."""

METRICS = {
    "psnr": ("PSNR", "{:.1f} dB"),
    "ssim": ("SSIM", "{:.2f}"),
    "lang_cosine": ("language cosine", "{:.2f}"),
    "lang_l1": ("language L1", "{:.3f}"),
}
"""Names and formats of the metrics."""


def write_run_page(path: Path, name: str, document: dict[str, Any], pictures: str) -> None:
    """Writes the page of a report.

    Args:
        path: The file.
        name: Name of the scene.
        document: The measurements, as in report.json.
        pictures: What `show_views` returns.
    """
    costs, metrics = document["costs"], document["metrics"]
    figures = {"total time": duration(costs["wall_seconds"]), "peak memory": f"{costs['peak_memory_gb']:.1f} GB"}
    if costs["peak_gpu_memory_gb"]:
        figures["peak memory of the card"] = f"{costs['peak_gpu_memory_gb']:.1f} GB"
    where = "held out" if metrics["split"] == "eval" else "training views"
    figures |= {
        f"{title}, {where}": form.format(metrics[key])
        for key, (title, form) in METRICS.items()
        if key in metrics and key != "lang_l1"
    }
    sections = (
        _health(document["health"]),
        pictures,
        _costs(costs),
        _training(metrics["curves"]),
        f"<section class=facts><h2>How it was measured</h2>{definitions(_facts(costs, metrics))}</section>",
    )
    write_page(path, Page(f"Training of {name}", _verdict(document["health"]), figures, sections))


def _verdict(health: dict[str, Any]) -> str:
    """Says in a sentence how the run went."""
    if not health:
        return "The run ended before its language phase."
    faults = [name for name, line in health.items() if line["faulty"]]
    if faults:
        return f"The run is complete, and its language has a fault: {', '.join(faults)}. What to change is said below."
    if any(line["value"] is not None for line in health.values()):
        return "The run is complete. None of the known faults of its language was found."
    return "The run is complete. Its language could not be measured, because no view has a region with a latent."


def _health(health: dict[str, Any]) -> str:
    """Makes a table of the faults, with the cure of those that the run has, and all further numbers."""
    if not health:
        return ""
    rows = ["<tr><th>fault<th>verdict<th>number<th>healthy<th>what the number is"]
    for name, line in health.items():
        value = "-" if line["value"] is None else f"{line['value']:.3f}"
        if line["value"] is None:
            verdict = "<td>not measured"
        elif line["hidden_by"]:
            verdict = "<td>not judged"
        else:
            verdict = "<td class=missed>fault" if line["faulty"] else "<td class=good>healthy"
        rows.append(
            f"<tr><td class=text>{escape(name)}{verdict}<td>{value}<td>{line['comparison']} {line['threshold']:g}"
            f"<td class=wrap>{escape(line['meaning'])}"
        )
        if line["faulty"]:
            rows.append(f"<tr class=advice><td colspan=5 class=wrap><b>What to change:</b> {escape(line['cure'])}")
        elif line["hidden_by"]:
            rows.append(f"<tr class=advice><td colspan=5 class=wrap>Not judged, because {escape(line['hidden_by'])}.")
        elif line["note"]:
            rows.append(f"<tr class=said><td colspan=5 class=wrap>{escape(line['note'])}")
    details = "".join(
        f"<tr><td class=text>{escape(key.replace('_', ' '))}<td>{value:.3f}<td class=wrap>{escape(MEANINGS[key])}"
        for line in health.values()
        for key, value in line["details"].items()
    )
    further = (
        f"<details><summary>Further numbers</summary><div class=scroll><table><tr><th>name<th>number<th>what it is"
        f"{details}</table></div></details>"
        if details
        else ""
    )
    return f"<section><h2>Health</h2><div class=scroll><table>{''.join(rows)}</table></div>{further}</section>"


def _costs(costs: dict[str, Any]) -> str:
    """Makes a table of the stages."""
    total = max(costs["wall_seconds"], 1e-9)
    with_card = bool(costs["peak_gpu_memory_gb"])
    rows = ["<tr><th>stage<th>time<th>share<th>processor<th>peak memory" + ("<th>card" if with_card else "")]
    for name, cost in costs["stages"].items():
        share = cost["wall_seconds"] / total
        bar = f"<span class=bar><i style='width:{100 * share:.0f}%'></i></span>{share:.1%}"
        rows.append(f"<tr><td class=text>{escape(name)}{_cost_cells(cost, bar, with_card)}")
    rows.append(f"<tr class=total><td>all stages{_cost_cells(costs, '', with_card)}")
    stored = costs["stored_features"]
    if stored["views"]:
        for name in ("masks", "embeddings"):
            cells = _cost_cells(stored[name], "", with_card)
            rows.append(f"<tr class=total><td>{name} of {stored['views']} views, stored before{cells}")
    return f"<section><h2>Costs</h2><div class=scroll><table>{''.join(rows)}</table></div></section>"


def _cost_cells(cost: dict[str, float], share: str, with_card: bool) -> str:
    card = f"<td>{cost['peak_gpu_memory_gb']:.2f} GB" if with_card else ""
    seconds = duration(cost["wall_seconds"]), duration(cost["processor_seconds"])
    return f"<td>{seconds[0]}<td>{share}<td>{seconds[1]}<td>{cost['peak_memory_gb']:.2f} GB{card}"


def _training(curves: dict[str, Any]) -> str:
    """Draws the loss of every phase over its steps."""
    drawn = "".join(_curve(name, curve) for name, curve in curves.items())
    return f"<section><h2>Training</h2>{drawn}</section>" if drawn else ""


def _curve(name: str, curve: Sequence[Any]) -> str:
    """Draws a loss over steps."""
    finite = [point for point in curve if point[1] is not None]
    if len(finite) < 2:
        return f"<p class=note>{escape(name)}: the loss is not a finite number.</p>" if len(curve) > 1 else ""
    width, height = CURVE_SIZE
    steps, losses = np.array(finite).T
    lost = len(curve) - len(finite)
    x = (steps - steps[0]) / (steps[-1] - steps[0]) * width
    y = height - losses / max(losses.max(), 1e-12) * (height - 4)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f"<svg viewBox='0 0 {width} {height}' style='width:100%;max-height:14rem' preserveAspectRatio=none>"
        f"<polyline points='{points}' fill=none stroke='var(--accent)' stroke-width=2 "
        "vector-effect=non-scaling-stroke /></svg>"
        f"<p class=note>{escape(name)}: the loss from step {steps[0]:.0f} to {steps[-1]:.0f}, on a scale from 0 to "
        f"{losses.max():.3g}; {losses[-1]:.3g} at the end"
        f"{f', and not a finite number at {lost} of {len(curve)} points' if lost else ''}.</p>"
    )


def show_views(scene: LanguageScene, views: Sequence[MeasuredView]) -> str:
    """Makes HTML of views evenly spaced: photograph, rendering, principal directions of the latents, regions."""
    if not views:
        return ""
    latents = scene.model.latents[:, SHOWN_LEVEL]
    pca = LatentPca.fit(latents) if bool(has_latent(latents).any()) else None
    places = np.linspace(0, len(views) - 1, min(NUM_SHOWN, len(views))).round().astype(int)
    articles = []
    for view in (views[place] for place in places):
        rendered = view.latents[..., SHOWN_LEVEL, :]
        photograph = _pixels(view.photograph)
        pictures = {
            "photograph": photograph,
            "rendering": _pixels(view.rgb),
            "latents": _pixels(view.rgb.new_zeros(view.rgb.shape) if pca is None else pca.apply(rendered)),
            "regions": paint_regions(photograph, view.features.regions[SHOWN_LEVEL].numpy()),
        }
        name = escape(view.view.name)
        images = "".join(
            f'<img loading=lazy alt="{name}: {caption}" src="{data_uri(picture)}">'
            for caption, picture in pictures.items()
        )
        figures = ", ".join(f"{METRICS[key][0]} {METRICS[key][1].format(value)}" for key, value in view.metrics.items())
        articles.append(
            f"<article><div class=pictures>{images}</div><p>{name}"
            f"<span>{'held out' if view.view.split == 'eval' else 'training view'}: {figures}</span></p></article>"
        )
    return (
        "<section><h2>Views</h2><p class=note>From left to right: the photograph; the rendered view; the rendered "
        "latents of the level whole, colored by their three principal directions; the regions of the photograph at "
        "this level. Where the latents are good, each object has one color, with the borders of the regions."
        f"</p><div class=cards>{''.join(articles)}</div></section>"
    )


def _pixels(colors: Float[Tensor, "height width 3"]) -> Picture:
    pixels: Picture = (colors.cpu().numpy().clip(0, 1) * 255).round().astype(np.uint8)
    return pixels


def _facts(costs: dict[str, Any], metrics: dict[str, Any]) -> dict[str, str]:
    rate = costs["regions_per_second"]
    sizes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in costs["bytes"].items())
    facts = {
        "Regions": f"{costs['regions']:,} in {costs['views']} views"
        + ("" if rate is None else f", {rate:.1f} per second without loading the models"),
        "Masks and embeddings": f"{percent(costs['share_of_masks_and_embeddings'])} of all time; "
        f"{costs['mask_generator']} and {costs['encoder']}",
        "Gaussians": f"{costs['gaussians']:,} on {costs['device']}",
        "Machine": costs["machine"],
        "On disk": sizes,
        "Not counted": "; ".join(costs["not_counted"]),
    }
    if len(costs["parts"]) > 1:
        facts["Parts"] = "; ".join(
            f"steps {part['first_step']} to {part['end_step'] - 1} in {duration(part['wall_seconds'])}"
            for part in costs["parts"]
        )
    if metrics["views"]:
        facts["Measured in"] = (
            f"{', '.join(metrics['views'])} ({'held out' if metrics['split'] == 'eval' else 'training views'})"
        )
    return facts
