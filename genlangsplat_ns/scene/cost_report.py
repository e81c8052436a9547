"""What a run cost, stage by stage, as the entry `costs` of its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genlangsplat_ns.features.costs import EMBEDDINGS, MASKS, ExtractionCosts, ViewCost
from genlangsplat_ns.scene.cost_table import duration
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from genlangsplat_ns.scene_io.run_costs import RunCosts, RunPart, merge_stages
from genlangsplat_ns.utils.machine import describe_machine
from genlangsplat_ns.utils.stopwatch import OTHER, STARTUP, StageCost


def cost_document(
    scene: LanguageScene, folder: Path, costs: RunCosts, current: RunPart, geometry: Path | None = None
) -> dict[str, Any]:
    """Returns the costs of a run as JSON values; `current` is the part of this process.

    The seconds of the stages, with `other`, add up to `wall_seconds`. Features that an earlier command stored are not
    in them, but in `stored_features`. `geometry` is the run or file whose Gaussians the run started from.
    """
    parts = costs.parts(current)
    # What belongs to no stage comes last.
    stages = dict(sorted(merge_stages(parts).items(), key=lambda item: item[0] == OTHER))
    total = sum(stages.values(), StageCost())
    data = scene.datamanager
    store = data.store
    keys = {data.language_key(*view) for view in data.all_views()}
    per_view = ExtractionCosts(store.folder)
    # A process that resumes finds the features stored, by an earlier process of this run or by another command.
    extracted_before = any(MASKS in part.stages for part in costs.earlier)
    reused = set() if extracted_before else keys & data.reused_keys
    extracted, earlier = per_view.sum(keys - reused), per_view.sum(reused)
    earlier_seconds = _seconds_of(earlier)
    own_seconds = sum(stages[name].wall_seconds for name in (MASKS, EMBEDDINGS) if name in stages)
    rate = _rate(extracted if extracted.regions else earlier)
    return {
        **_rounded(total),
        "stages": {name: _rounded(cost) for name, cost in stages.items()},
        "parts": [{"first_step": part.first_step, "end_step": part.end_step, **_rounded(part.total)} for part in parts],
        "resumed": None
        if costs.resumed_from is None
        else {"from_step": costs.resumed_from, "earlier_costs_known": costs.earlier_known},
        "views": len(data.all_views()),
        "regions": extracted.regions + earlier.regions,
        "regions_per_second": rate,
        "stored_features": {
            "views": len(reused),
            "views_with_unknown_costs": sum(key not in per_view for key in reused),
            "masks": _rounded(earlier.masks),
            "embeddings": _rounded(earlier.embeddings),
        },
        "share_of_masks_and_embeddings": round(
            (own_seconds + earlier_seconds) / max(total.wall_seconds + earlier_seconds, 1e-9), 4
        ),
        "encoder": data.extractor.encoder_identity,
        "mask_generator": data.extractor.mask_name,
        "device": str(scene.model.device),
        "machine": describe_machine(),
        "gaussians": int(scene.model.num_points),
        "bytes": _bytes(scene, folder, keys),
        "not_counted": _not_counted(costs, STARTUP in current.stages, bool(reused), geometry),
    }


def describe_costs(costs: Mapping[str, Any]) -> str:
    """Summarizes the costs in one sentence."""
    slowest = sorted(costs["stages"].items(), key=lambda item: -item[1]["wall_seconds"])[:3]
    stages = ", ".join(f"{name} {duration(cost['wall_seconds'])}" for name, cost in slowest)
    gpu = costs["peak_gpu_memory_gb"]
    card = f" and {gpu:.1f} GB on the card" if gpu else ""
    masks = f"masks and embeddings take {costs['share_of_masks_and_embeddings']:.0%}"
    stored = costs["stored_features"]["views"]
    if stored:
        masks += f" with those of {stored} views that were stored before"
    sentence = (
        f"Costs: {duration(costs['wall_seconds'])} ({stages}), at most {costs['peak_memory_gb']:.1f} GB of memory"
        f"{card}; {masks}"
    )
    if costs["resumed"] is None:
        return sentence + "."
    known = "with" if costs["resumed"]["earlier_costs_known"] else "without"
    return f"{sentence}; {known} the part before step {costs['resumed']['from_step'] + 1}, from which it was resumed."


def _rounded(cost: StageCost) -> dict[str, float]:
    return asdict(cost.rounded())


def _seconds_of(cost: ViewCost) -> float:
    return cost.masks.wall_seconds + cost.embeddings.wall_seconds


def _rate(cost: ViewCost) -> float | None:
    """Regions per second of finding and embedding them, without loading the models."""
    seconds = _seconds_of(cost)
    return round(cost.regions / seconds, 2) if seconds > 0 else None


def _bytes(scene: LanguageScene, folder: Path, keys: set[str]) -> dict[str, int]:
    """Bytes on disk of the newest checkpoint, the features of the run's views, and the memory in the checkpoint."""
    checkpoint, memory = latest_checkpoint(folder / "nerfstudio_models"), scene.model.memory
    values = () if memory is None else memory.buffers()
    return {
        "checkpoint": 0 if checkpoint is None else checkpoint.stat().st_size,
        "memory": sum(value.numel() * value.element_size() for value in values),
        "features": sum(scene.datamanager.store.size_of(key) for key in keys),
    }


def _not_counted(costs: RunCosts, with_startup: bool, stored: bool, geometry: Path | None) -> list[str]:
    notes = ["what happens after the report: the end of the process, or the viewer"]
    if not with_startup:
        notes.insert(0, "what the process did before it set up the training")
    if geometry is not None:
        notes.append(f"the training of the Gaussians of {geometry}")
    if not costs.earlier_known:
        notes.append(f"the part before step {(costs.resumed_from or 0) + 1}, whose costs are unknown")
    elif costs.earlier:
        notes.append("steps that were lost between a checkpoint and a stop")
    if stored:
        notes.append("features that an earlier command stored; their costs are in stored_features")
    return notes
