"""Kills commands at seeded random moments and runs them again: nothing may be lost, wrong or left over.

Half of the kills come after a random time, the other half at a random operation on a file, also in the middle of a
write. Most are SIGKILL, some SIGINT.
"""

from __future__ import annotations

import io
import json
import signal
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.robustness.file_faults import FileFault
from tests.robustness.stages import Stage
from tests.robustness.warm_process import Outcome, Task, WarmProcess

Files = dict[str, bytes]
"""Contents of files by their path below a folder."""

Results = dict[str, bytes | Tensor]

FILE_ACTIONS = ("kill", "half a write, then kill", "interrupt")

LOGS = ("events.out.tfevents.",)
"""Beginnings of the names of logs of other programs, which grow line by line."""


@dataclass
class KillFigures:
    """What the kills of one stage did."""

    stage: str
    kills: int = 0
    midway: int = 0
    """Kills that ended the work before it was done."""
    data_losses: int = 0
    """Kills after which an earlier file was gone or a file was not whole."""
    wrong_resumes: int = 0
    """Kills after which the same command failed or had another result."""
    leftovers: int = 0
    """Kills after which a temporary file or a process was left, also after the resume."""
    findings: list[str] = field(default_factory=list)
    """What was wrong, with the kill that did it."""


@dataclass(frozen=True)
class Uninterrupted:
    """A run of a stage without a kill."""

    before: Files
    after: Files
    results: Results
    seconds: float
    operations: int


class Workplace:
    """The folder in which stages work, what they start from, and the warm process."""

    def __init__(self, scratch: Path, warm: WarmProcess) -> None:
        self.folder, self.base, self.warm = scratch / "place", scratch / "base", warm
        self._uninterrupted: dict[str, Uninterrupted] = {}

    def prepare(self, stage: Stage) -> None:
        """Makes what stages start from, once."""
        if not self.base.exists():
            done = self.warm.run(Task(stage.name, str(self.folder), "prepare"))
            assert done.status == 0, done.output
            self.folder.rename(self.base)

    def start(self, stage: Stage) -> None:
        """Puts what a stage starts from into the folder."""
        self.prepare(stage)
        stage.place(self.base, self.folder)

    def run(self, stage: Stage, **task: object) -> Outcome:
        """Runs a stage in the folder."""
        return self.warm.run(Task(stage.name, str(self.folder), **task))  # type: ignore[arg-type]

    def uninterrupted(self, stage: Stage) -> Uninterrupted:
        """Runs a stage without a kill, once."""
        if stage.name not in self._uninterrupted:
            self.start(stage)
            before = contents(self.folder)
            done = self.run(stage)
            assert done.status == 0, f"{stage.name} fails without a fault: {done.output}"
            results = stage.results(self.folder)
            assert results, f"{stage.name} left nothing"
            self._uninterrupted[stage.name] = Uninterrupted(
                before, contents(self.folder), results, done.seconds, done.operations
            )
        return self._uninterrupted[stage.name]


def contents(folder: Path) -> Files:
    """Reads all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def random_kill(rng: np.random.Generator, number: int, expected: Uninterrupted) -> dict[str, object]:
    """Draws one kill: the settings of its task."""
    if number % 2:
        action = str(rng.choice(FILE_ACTIONS))
        return {"fault": FileFault(int(rng.integers(1, expected.operations + 1)), action)}
    chosen = signal.SIGINT if rng.random() < 0.25 else signal.SIGKILL
    return {"kill_after": float(rng.uniform(0, expected.seconds)), "kill_signal": int(chosen)}


def kill_stage(place: Workplace, stage: Stage, kills: int, seed: int) -> KillFigures:
    """Kills a stage several times, and runs it again after each."""
    figures = KillFigures(stage.name)
    expected = place.uninterrupted(stage)
    for number in range(kills):
        kill = random_kill(np.random.default_rng([seed, number]), number, expected)
        place.start(stage)
        killed = place.run(stage, **kill)
        figures.kills += 1
        figures.midway += killed.status != 0
        losses = lost_files(contents(place.folder), expected)
        if killed.hung:
            losses.append("it hung")
        resumed = place.run(stage)
        wrong = differences(stage, place.folder, expected.results) if resumed.status == 0 else [resumed.output[-400:]]
        left = [*killed.processes_left, *resumed.processes_left, *temporary_files(contents(place.folder), expected)]
        figures.data_losses += bool(losses)
        figures.wrong_resumes += bool(wrong)
        figures.leftovers += bool(left)
        for kind, found in (("lost", losses), ("wrong", wrong), ("left", left)):
            if found:
                figures.findings.append(f"{stage.name}, seed {seed}, kill {number} ({kill}): {kind}: {found}")
    return figures


def lost_files(found: Files, expected: Uninterrupted) -> list[str]:
    """Names earlier files that are gone, and files that are not whole."""
    visible = {name: content for name, content in found.items() if not _hidden(name)}
    gone = [f"{name} is gone" for name in expected.before if not _hidden(name) and name not in visible]
    broken = [
        f"{name} is not whole"
        for name, content in visible.items()
        if content not in (expected.before.get(name), expected.after.get(name)) and not is_whole(name, content)
    ]
    return gone + broken


def differences(stage: Stage, folder: Path, expected: Results) -> list[str]:
    """Names the results that differ from those of the uninterrupted run."""
    found = stage.results(folder)
    if found.keys() != expected.keys():
        return [f"found {sorted(found)}, expected {sorted(expected)}"]
    return [name for name in expected if not same(found[name], expected[name], stage.tolerance)]


def same(found: bytes | Tensor, expected: bytes | Tensor, tolerance: float | None) -> bool:
    """Whether two results are equal, or tensors of one shape have at least the cosine `tolerance`."""
    if not (isinstance(found, Tensor) and isinstance(expected, Tensor)):
        return found == expected
    if found.shape != expected.shape:
        return False
    if tolerance is None:
        return torch.equal(found, expected)
    return float(torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0)) >= tolerance


def temporary_files(found: Files, expected: Uninterrupted) -> list[str]:
    """Names hidden files that neither the start nor an uninterrupted run has."""
    return [name for name in found if _hidden(name) and name not in expected.after and name not in expected.before]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def is_whole(name: str, content: bytes) -> bool:
    """Whether a file can be read to its end, judged by its format; unknown formats count as broken."""
    path = Path(name)
    if path.name.startswith(LOGS):
        return True
    try:
        if path.suffix == ".json":
            json.loads(content)
        elif path.suffix in (".ckpt", ".pt"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return archive.testzip() is None
        elif path.suffix in (".png", ".jpg"):
            Image.open(io.BytesIO(content)).load()
        elif path.suffix == ".npy":
            np.load(io.BytesIO(content))
        elif path.suffix == ".safetensors":
            return _is_whole_safetensors(content)
        elif path.suffix == ".html":
            return content.rstrip().endswith(b"</html>")
        elif path.suffix == ".yml":
            # A text that ends early is still YAML; the settings of a run end with this one.
            return b"\nvis: " in content or b"\nviewer:" in content
        else:
            return False
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, SyntaxError):
        return False
    return True


def _is_whole_safetensors(content: bytes) -> bool:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    return len(content) == 8 + length + max(ends, default=0)


def spread(kills: int, stages: int) -> list[int]:
    """Splits kills over stages as evenly as possible."""
    return [kills // stages + (number < kills % stages) for number in range(stages)]
