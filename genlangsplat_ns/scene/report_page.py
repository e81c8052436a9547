"""The page of a run's report: figures, costs of the stages, the curve of training, and pictures."""

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
from genlangsplat_ns.scene.cost_table import duration
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene.measured_views import MeasuredView

NUM_SHOWN = 3
"""Number of views with pictures."""

SHOWN_LEVEL = LEVELS.index("whole")
"""The level of the latents and regions in the pictures."""

CURVE_SIZE = 640, 160
"""Width and height of the curve in pixels."""


def write_run_page(path: Path, scene: LanguageScene, document: dict[str, Any], views: Sequence[MeasuredView]) -> None:
    """Writes the page of a report, whose measurements are in `document`."""
    costs, metrics = document["costs"], document["metrics"]
    figures = {"total time": duration(costs["wall_seconds"]), "peak memory": f"{costs['peak_memory_gb']:.1f} GB"}
    if costs["peak_gpu_memory_gb"]:
        figures["peak memory of the card"] = f"{costs['peak_gpu_memory_gb']:.1f} GB"
    where = "held out" if metrics["split"] == "eval" else "training views"
    if "psnr" in metrics:
        figures[f"PSNR, {where}"] = f"{metrics['psnr']:.1f} dB"
    if "lang_cosine" in metrics:
        figures[f"language cosine, {where}"] = f"{metrics['lang_cosine']:.2f}"
    sections = (
        _health(document["health"]),
        _costs(costs),
        _curve(metrics["curve"]),
        _pictures(scene, views),
        f"<section class=facts><h2>How it was measured</h2>{definitions(_facts(costs, metrics))}</section>",
    )
    write_page(path, Page(f"Training of {scene.name}", "What the run cost, and how it went.", figures, sections))


def _health(health: dict[str, Any]) -> str:
    """Makes a table of the faults, with the cure of those that the run has."""
    if not health:
        return ""
    rows = ["<tr><th>fault<th>verdict<th>number<th>healthy<th>what the number is"]
    for name, line in health.items():
        value = "-" if line["value"] is None else f"{line['value']:.3f}"
        verdict = "not judged" if line["hidden_by"] or line["value"] is None else "no"
        missed = " class=missed" if line["faulty"] else ""
        rows.append(
            f"<tr><td class=text>{escape(name)}<td{missed}>{'yes' if line['faulty'] else verdict}<td>{value}"
            f"<td>{line['comparison']} {line['threshold']:g}<td>{escape(line['meaning'])}"
        )
    notes = [
        f"<p class=note><b>{escape(name)}</b>: "
        f"{escape(line['cure'] if line['faulty'] else 'not judged, because ' + line['hidden_by'] + '.')}</p>"
        for name, line in health.items()
        if line["faulty"] or line["hidden_by"]
    ]
    return f"<section><h2>Health</h2><div class=scroll><table>{''.join(rows)}</table></div>{''.join(notes)}</section>"


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


def _curve(curve: Sequence[Any]) -> str:
    """Draws the loss over the steps."""
    if len(curve) < 2:
        return ""
    width, height = CURVE_SIZE
    steps, losses = np.array(curve).T
    x = (steps - steps[0]) / (steps[-1] - steps[0]) * width
    y = height - losses / max(losses.max(), 1e-12) * (height - 4)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        "<section><h2>Training</h2>"
        f"<svg viewBox='0 0 {width} {height}' style='width:100%;max-height:14rem' preserveAspectRatio=none>"
        f"<polyline points='{points}' fill=none stroke='var(--accent)' stroke-width=2 "
        "vector-effect=non-scaling-stroke /></svg>"
        f"<p class=note>Loss from step {steps[0]:.0f} to {steps[-1]:.0f}, on a scale from 0 to {losses.max():.3g}; "
        f"{losses[-1]:.3g} at the end.</p></section>"
    )


def _pictures(scene: LanguageScene, views: Sequence[MeasuredView]) -> str:
    """Shows views evenly spaced: photograph, rendering, principal directions of the latents, regions."""
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
        figures = ", ".join(f"{key} {value:.3g}" for key, value in view.metrics().items())
        articles.append(
            f"<article><div class=pictures>{images}</div><p>{name}"
            f"<span>{'held out' if view.view.split == 'eval' else 'training view'}: {figures}</span></p></article>"
        )
    return (
        "<section><h2>Views</h2><p class=note>From left to right: the photograph; the rendered view; the rendered "
        "latents of the level whole, colored by their three principal directions; the regions of the photograph at "
        f"this level.</p><div class=cards>{''.join(articles)}</div></section>"
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
        "On disk": sizes,
        "Not counted": "; ".join(costs["not_counted"]),
    }
    if len(costs["parts"]) > 1:
        facts["Parts"] = "; ".join(
            f"steps {part['first_step']} to {part['end_step'] - 1} in {duration(part['wall_seconds'])}"
            for part in costs["parts"]
        )
    if metrics["views"]:
        facts["Measured in"] = f"{', '.join(metrics['views'])} ({metrics['split']})"
    return facts
