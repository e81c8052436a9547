"""`costs.json` of a run: what its stages cost so far, so that a resumed run counts its earlier parts once.

A process that resumes a run repeats the steps since the checkpoint. So the file also holds what the run had cost at
each checkpoint, and a resumed run continues from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from genlangsplat_ns.utils.files import atomic_path
from genlangsplat_ns.utils.json_files import integer_of, list_of, number_of, object_of, read_json
from genlangsplat_ns.utils.stopwatch import StageCost

LOGGER = logging.getLogger(__name__)

FILE = "costs.json"
"""Name of the file in the folder of a run."""


@dataclass(frozen=True)
class RunPart:
    """The part of a run that one process trained."""

    first_step: int
    """The first step of the process."""
    end_step: int
    """One more than its last step."""
    stages: Mapping[str, StageCost]
    """Costs by stage."""

    @property
    def total(self) -> StageCost:
        """The sum of all stages."""
        return sum(self.stages.values(), StageCost())

    @classmethod
    def from_json(cls, content: Any) -> RunPart:
        """Reads a part from JSON values; raises ValueError if they are something else."""
        entries = object_of(content, "a part")
        names = [item.name for item in fields(StageCost)]
        stages = {
            stage: StageCost(*(number_of(object_of(cost, stage).get(name, 0.0), name) for name in names))
            for stage, cost in object_of(entries.get("stages"), "stages").items()
        }
        first, end = (integer_of(entries.get(name), name) for name in ("first_step", "end_step"))
        return cls(first, end, stages)


@dataclass
class RunCosts:
    """The costs of a run, part by part."""

    earlier: list[RunPart] = field(default_factory=list)
    """The parts before this process, as of the checkpoint from which it resumed."""
    resumed_from: int | None = None
    """Step of the checkpoint from which this process resumed; None if it did not."""
    checkpoints: dict[int, list[RunPart]] = field(default_factory=dict)
    """The parts as of each checkpoint, by its step."""

    @classmethod
    def resume(cls, folder: Path, step: int) -> RunCosts:
        """Continues the costs of the run in a folder from its checkpoint at a step.

        A run without a usable file has no earlier parts.
        """
        path = folder / FILE
        try:
            content = object_of(read_json(path), "the file")
            stored = {
                int(key): [RunPart.from_json(part) for part in list_of(parts, "the parts")]
                for key, parts in object_of(content.get("checkpoints"), "checkpoints").items()
            }
            if step not in stored:
                raise ValueError("it lacks this step")
        except (OSError, ValueError) as error:
            LOGGER.info("What the run cost before step %d is unknown (%s: %s).", step, path, type(error).__name__)
            return cls(resumed_from=step)
        return cls(stored[step], step, {key: parts for key, parts in stored.items() if key <= step})

    @property
    def earlier_known(self) -> bool:
        """Whether the costs before the resume are known; True without a resume."""
        return self.resumed_from is None or bool(self.earlier)

    def parts(self, current: RunPart) -> list[RunPart]:
        """All parts of the run, this process last."""
        return [*self.earlier, current]

    def save(self, folder: Path, current: RunPart, checkpoint: int | None = None) -> None:
        """Writes the file atomically; `checkpoint` is the step of a checkpoint that was just saved.

        A training continues without the file, so a failure is logged only.
        """
        parts = self.parts(current)
        if checkpoint is not None:
            self.checkpoints[checkpoint] = parts
        content = {
            "parts": [asdict(part) for part in parts],
            "checkpoints": {str(key): [asdict(part) for part in kept] for key, kept in self.checkpoints.items()},
        }
        try:
            with atomic_path(folder / FILE) as temporary:
                temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        except OSError as error:
            LOGGER.warning("The costs of the run could not be written to %s: %s.", folder / FILE, error.strerror)


def merge_stages(parts: list[RunPart]) -> dict[str, StageCost]:
    """Adds up the stages of all parts, in the order of their first appearance."""
    merged: dict[str, StageCost] = {}
    for part in parts:
        for name, cost in part.stages.items():
            merged[name] = merged.get(name, StageCost()) + cost
    return merged
