"""Tables and goals of the composed scenes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from support.benchmark import Goal, Row
from support.tables import mean_with_range, print_table

PAPER_LINE = 0.93
"""Cosine of decoded and real embeddings reported in the paper."""


def chosen(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def mean_of(rows: Sequence[Row], figure: str) -> float:
    """Mean of a figure; NaN if there are no rows."""
    return statistics.mean(row[figure] for row in rows) if rows else float("nan")


def show_all(rows: list[Row]) -> None:
    """Prints all tables; those of the composed scenes only if there are any."""
    _show_fox(chosen(rows, part="fox"))
    if not chosen(rows, part="scene"):
        return
    _by_scene("Scenes: mIoU (localization)", chosen(rows, part="scene"), _name)
    others = [row for part in ("bounds", "rival", "gaussian", "mislabeled") for row in chosen(rows, part=part)]
    _by_scene("Bounds, baselines, mode gaussian, 30 % mislabeled", others, lambda row: f"{row['part']}: {_name(row)}")
    _show_costs(chosen(rows, part="scene", decoder="memory"))
    _show_fidelity(chosen(rows, part="fidelity"))
    _show_domains(chosen(rows, part="domains"))


def _name(row: Row) -> str:
    return " ".join(str(row[key]) for key in ("code", "latent_dim", "decoder") if key in row)


def _by_scene(title: str, rows: list[Row], name: Callable[[Row], str]) -> None:
    seeds = sorted({row["seed"] for row in rows})
    lines = []
    for label in dict.fromkeys(map(name, rows)):
        own = {row["seed"]: row for row in rows if name(row) == label}
        cells = [_score(own[seed]) if seed in own else "" for seed in seeds]
        mistaken = [row["shuffled_miou"] for row in own.values() if "shuffled_miou" in row]
        mean = f"{mean_of(list(own.values()), 'miou'):.3f} ({mean_of(list(own.values()), 'localization'):.2f})"
        lines.append((label, *cells, mean, f"{max(mistaken):.4f}" if mistaken else ""))
    print_table(("latents", *map(str, seeds), "mean", "shuffled"), lines, title)


def _score(row: Row) -> str:
    return f"{row['miou']:.3f} ({row['localization']:.2f})"


def _show_costs(rows: list[Row]) -> None:
    lines = []
    for label in dict.fromkeys(map(_name, rows)):
        own = [row for row in rows if _name(row) == label]
        times = (
            f"{mean_of(own, f'{part}_seconds'):.1f} ({mean_of(own, f'{part}_processor_seconds'):.1f})"
            for part in ("lift", "memory")
        )
        keys = f"{min(row['keys'] for row in own):.0f} to {max(row['keys'] for row in own):.0f}"
        lines.append((label, *times, keys, f"{max(row['memory_mb'] for row in own):.2f}"))
    headings = ("latents", "lift s (processor)", "memory s (processor)", "keys", "MB")
    print_table(headings, lines, title="Mean costs of a scene")


def _show_fidelity(rows: list[Row]) -> None:
    lines = []
    for name in dict.fromkeys((_name(row), row["latents"]) for row in rows):
        own = [row for row in rows if (_name(row), row["latents"]) == name]
        cells = []
        for kind in ("embedding", "source"):
            cells.append(mean_with_range([row[f"{kind}_cosine"] for row in own], ".3f"))
            cells.append(f"{1e3 * mean_of(own, f'{kind}_mse'):.3f}")
        lines.append((", ".join(name), *cells))
    columns = ("cosine", "MSE x 1000")
    print_table(("latents", *columns, *columns), lines, title="Held-out regions: embeddings, and noiseless vectors")


def _show_domains(rows: list[Row]) -> None:
    asked = list(dict.fromkeys(row["asked"] for row in rows))
    lines = []
    for trained_on in dict.fromkeys(row["trained_on"] for row in rows):
        own = {row["asked"]: row for row in chosen(rows, trained_on=trained_on)}
        lines.append((trained_on, *(f"{own[name]['autoencoder']:.3f}, {own[name]['memory']:.3f}" for name in asked)))
    means = {row["asked"]: row["mean_vector"] for row in rows}
    lines.append(("the mean vector alone", *(f"{means[name]:.3f}" for name in asked)))
    title = "Held-out vectors of each domain: cosine with the decoder, with a memory"
    print_table(("trained on", *asked), lines, title)


def _show_fox(rows: list[Row]) -> None:
    if not rows:
        return
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    lines = []
    for code, decoder in dict.fromkeys((row["code"], row["decoder"]) for row in rows):
        own = {row["protocol"]: row for row in chosen(rows, code=code, decoder=decoder)}
        row = own[protocols[0]]
        times = (
            f"{row[f'{part}_seconds']:.0f} ({row[f'{part}_processor_seconds']:.0f})" for part in ("lift", "memory")
        )
        scores = (_score(own[protocol]) for protocol in protocols)
        lines.append((code, decoder, f"{row['cosine']:.3f}", str(row["keys"]), *times, *scores))
    headings = ("code", "decoder", "held-out cosine", "keys", "lift s", "memory s", *protocols)
    print_table(headings, lines, title="Fox")


def goals_of(rows: list[Row], width: int) -> list[Goal]:
    """The goals."""
    scenes = chosen(rows, part="scene")
    if not scenes:
        return []
    raw = {row["seed"]: row for row in chosen(scenes, code="none", decoder="autoencoder")}
    goals = []
    for code, leniency in (("images", 0.0), ("projection", 0.02)):
        own = chosen(scenes, code=code, latent_dim=width, decoder="memory")
        gains = [row["miou"] - raw[row["seed"]]["miou"] for row in own]
        title = f"{code} {width}, memory, {len(own)} scenes"
        baselines = [row for part in (list(raw.values()), chosen(rows, part="rival")) for row in part]
        best = {seed: max(row["miou"] for row in chosen(baselines, seed=seed)) for seed in raw}
        beaten = [row["miou"] - best[row["seed"]] for row in own]
        goals += [
            Goal(f"{title}: minimum localization", min(row["localization"] for row in own), ">=", 0.95 - leniency),
            Goal(f"{title}: minimum mIoU", min(row["miou"] for row in own), ">=", 0.85 - leniency),
            Goal(f"{title}: mean mIoU", mean_of(own, "miou"), ">=", 0.9 - leniency),
            Goal(f"{title}: minimum gain of mIoU over the uncompressed lift", min(gains), ">=", -leniency),
            Goal(f"{title}: mean gain over the best baseline of each scene", statistics.mean(beaten), ">=", 0.0),
            Goal(f"{title}: mIoU of shuffled texts", max(row["shuffled_miou"] for row in own), "<=", 0.01),
        ]
    watches = chosen(scenes, code="watches", decoder="memory")
    goals.append(Goal("watches alone, memory: mean mIoU", mean_of(watches, "miou"), ">=", 0.75))
    wrong = chosen(rows, part="mislabeled")
    for code in ("images", "projection") if wrong else ():
        for baseline in dict.fromkeys(row["code"] for row in wrong if row["code"].startswith("none")):
            gain = mean_of(chosen(wrong, code=code), "miou") - mean_of(chosen(wrong, code=baseline), "miou")
            title = f"30 % mislabeled, {code}: mean gain of mIoU over 512 dimensions, {baseline.removeprefix('none, ')}"
            goals.append(Goal(title, gain, ">=", 0.03))
    own = {row["seed"]: row["miou"] for row in chosen(scenes, code="images", latent_dim=width, decoder="memory")}
    differences = [own[row["seed"]] - row["miou"] for row in chosen(rows, part="gaussian", code="images")]
    mean = abs(statistics.mean(differences))
    goals.append(Goal("points of mIoU between the modes, mean of scenes", 100 * mean, "<=", 2))
    worst = max(map(abs, differences))
    goals.append(Goal("points of mIoU between the modes, worst scene", 100 * worst, "<=", 2))
    fidelity = chosen(rows, part="fidelity", code="images")
    for decoder, latents, kind in (
        ("autoencoder", "its own", "embedding"),
        ("memory", "its own", "embedding"),
        ("memory", "rendered", "embedding"),
        ("memory", "rendered", "source"),
    ):
        value = mean_of(chosen(fidelity, decoder=decoder, latents=latents), f"{kind}_cosine")
        goals.append(Goal(f"cosine with the {kind}, {decoder}, latent {latents}", value, ">=", PAPER_LINE))
    return goals
