"""`costs.json` of a run: what its stages cost so far, so that a resumed run counts its earlier parts once.

A process that resumes a run repeats the steps since the checkpoint. So the file also holds what the run had cost at
each checkpoint, and a resumed run continues from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genlangsplat_ns.utils.files import atomic_path
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
    def from_json(cls, content: Mapping[str, Any]) -> RunPart:
        """Reads a part from JSON values."""
        stages = {name: StageCost(**cost) for name, cost in content["stages"].items()}
        return cls(int(content["first_step"]), int(content["end_step"]), stages)


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
            content = json.loads(path.read_text(encoding="utf-8"))
            stored = {
                int(key): [RunPart.from_json(part) for part in parts] for key, parts in content["checkpoints"].items()
            }
            return cls(stored[step], step, {key: parts for key, parts in stored.items() if key <= step})
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            LOGGER.info("What the run cost before step %d is unknown (%s: %s).", step, path, type(error).__name__)
            return cls(resumed_from=step)

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
