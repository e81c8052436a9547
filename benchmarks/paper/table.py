"""What was measured beside what is published, as rows and as a Markdown table; and what the runs cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from genlangsplat_ns.evaluation.protocols import PROTOCOLS
from genlangsplat_ns.evaluation.published import OVERALL, PUBLISHED, PublishedScore
from paper.scenes import DATA_SETS, SCENES

HERE = "measured here"


@dataclass(frozen=True)
class Figures:
    """Scores in 0 to 1 of one scene, or of all scenes of a data set; None where there is none."""

    localization: float | None
    miou: float | None
    acc_iou25: float | None


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table."""

    dataset: str
    scene: str
    """A scene, or `overall`."""
    method: str
    family: str
    """Where masks come from; scores of different families are not comparable."""
    by: str
    """Who says so: this check, or the source that published it."""
    micro: Figures
    """Over all pairs of view and text. This is what papers report for a scene."""
    macro: Figures
    """Of a scene: over its texts. Overall: over the scenes, which is what papers report."""
    pairs: int | None = None
    decoder: str | None = None
    protocol: str | None = None


NOTHING = Figures(None, None, None)


def score_rows(evaluations: Mapping[str, Mapping[str, Any]]) -> list[ScoreRow]:
    """Returns the measured rows of every scene, each decoder and protocol, with the published ones after them.

    Args:
        evaluations: What `gen-langsplat evaluate --decoder both` wrote for each finished scene, by its name.
    """
    rows: list[ScoreRow] = []
    for kind, names in DATA_SETS.items():
        finished = {name: evaluations[name] for name in names if name in evaluations}
        for name, document in finished.items():
            rows += [_measured(kind, name, *key, summary) for key, summary in _summaries(document)]
            rows += [_published(score) for score in PUBLISHED if (score.dataset, score.scene) == (kind, name)]
        if finished:
            rows += _overall(kind, finished)
            rows += [_published(score) for score in PUBLISHED if (score.dataset, score.scene) == (kind, OVERALL)]
    return rows


def _summaries(document: Mapping[str, Any]) -> list[tuple[tuple[str, str], Mapping[str, Any]]]:
    """Returns decoder and protocol with the means over all labeled views."""
    return [
        ((decoder, protocol), splits["all"])
        for decoder, protocols in document["decoders"].items()
        for protocol, splits in protocols.items()
        if splits["all"]["pairs"]
    ]


def _measured(kind: str, scene: str, decoder: str, protocol: str, summary: Mapping[str, Any]) -> ScoreRow:
    return ScoreRow(
        kind,
        scene,
        f"Gen-LangSplat for nerfstudio, {decoder}, {protocol}",
        PROTOCOLS[protocol].family,
        HERE,
        Figures(**summary["micro"]),
        Figures(**summary["macro"]),
        summary["pairs"],
        decoder,
        protocol,
    )


def _overall(kind: str, finished: Mapping[str, Mapping[str, Any]]) -> list[ScoreRow]:
    """Returns the means over the finished scenes of a data set: macro over scenes, micro over all their pairs."""
    by_rules: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for document in finished.values():
        for key, summary in _summaries(document):
            by_rules.setdefault(key, []).append(summary)
    missing = len(DATA_SETS[kind]) - len(finished)
    scene = OVERALL if not missing else f"{len(finished)} of {len(DATA_SETS[kind])} scenes"
    rows = []
    for key, summaries in by_rules.items():
        pairs = [summary["pairs"] for summary in summaries]
        scores = [summary["micro"] for summary in summaries]
        means = {"pairs": sum(pairs), "micro": _mean(scores, pairs), "macro": _mean(scores, [1] * len(scores))}
        rows.append(_measured(kind, scene, *key, means))
    return rows


def _mean(scores: Sequence[Mapping[str, float | None]], weights: Sequence[int]) -> dict[str, float | None]:
    """Averages each figure with weights; None if a scene has none."""
    averages: dict[str, float | None] = {}
    for name in asdict(NOTHING):
        values = [score[name] for score in scores]
        known = [value * weight for value, weight in zip(values, weights, strict=True) if value is not None]
        averages[name] = sum(known) / sum(weights) if len(known) == len(values) else None
    return averages


def _published(score: PublishedScore) -> ScoreRow:
    figures = Figures(score.localization, score.miou, score.acc_iou25)
    micro, macro = (NOTHING, figures) if score.scene == OVERALL else (figures, NOTHING)
    return ScoreRow(score.dataset, score.scene, score.method, score.family, f"published: {score.source}", micro, macro)


def scores_table(rows: Iterable[ScoreRow]) -> str:
    """Returns the rows as a Markdown table of percentages."""
    lines = [
        "| data | scene | method | masks from | by | localization micro | macro | mIoU micro | macro | "
        "IoU > 0.25 micro | macro | pairs |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = [_percent(getattr(side, name)) for name in asdict(NOTHING) for side in (row.micro, row.macro)]
        cells = [row.dataset, row.scene, row.method, row.family, row.by, *figures, str(row.pairs or "-")]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Of a scene, micro is the mean over pairs of view and text, as in papers, and macro over texts. Overall, macro "
        "is the mean over scenes, as in papers, and micro over all pairs. Published figures are as printed in their "
        "sources. Compare equal protocols only, and masks from rendered maps only with each other.",
    ]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def cost_row(name: str, photographs: int, report: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a scene of so many photographs cost, by the report of its run and by its evaluation."""
    costs = report["costs"]
    stages = costs["stages"]
    shares = [stages.get(stage, {}).get("wall_seconds", 0.0) for stage in ("masks", "embeddings")]
    stored = costs["stored_features"]
    shares += [stored[stage]["wall_seconds"] for stage in ("masks", "embeddings")]
    return {
        "dataset": SCENES[name],
        "scene": name,
        "photographs": photographs,
        "regions": costs["regions"],
        "gaussians": costs["gaussians"],
        "hours_masks_and_embeddings": sum(shares) / 3600,
        "hours_of_run": costs["wall_seconds"] / 3600,
        "hours_of_evaluation": evaluation["seconds"] / 3600,
        "peak_memory_gb": costs["peak_memory_gb"],
        "peak_gpu_memory_gb": costs["peak_gpu_memory_gb"],
        "features_gb": costs["bytes"]["features"] / 1e9,
        "checkpoint_gb": costs["bytes"]["checkpoint"] / 1e9,
        "memory_mb": costs["bytes"]["memory"] / 1e6,
        "psnr": evaluation["geometry"]["psnr"],
        "autoencoder": evaluation["autoencoder"]["name"],
        "device": costs["device"],
        "machine": costs["machine"],
    }


COST_COLUMNS = {
    "scene": "scene",
    "photographs": "photographs",
    "regions": "regions",
    "gaussians": "Gaussians",
    "hours_masks_and_embeddings": "h masks and embeddings",
    "hours_of_run": "h run",
    "hours_of_evaluation": "h evaluation",
    "peak_memory_gb": "GB memory",
    "peak_gpu_memory_gb": "GB card",
    "features_gb": "GB features",
    "checkpoint_gb": "GB checkpoint",
    "memory_mb": "MB scene memory",
    "psnr": "PSNR of training views",
    "autoencoder": "autoencoder",
}
"""Keys of a row of costs, and the headings of their columns."""


def costs_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the costs as a Markdown table."""
    lines = [f"| {' | '.join(COST_COLUMNS.values())} |", "|" + "---|" * len(COST_COLUMNS)]
    for row in rows:
        cells = [f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in COST_COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
