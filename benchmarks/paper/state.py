"""What is done of the check, in one file of the output folder, which is replaced at once after every change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import atomic_path

FILE = "state.json"

Progress = Literal["waiting", "trained", "done"]


@dataclass
class SceneState:
    """What is done of a scene."""

    progress: Progress = "waiting"
    problem: str = ""
    """Why the last attempt failed; empty if it did not."""
    words: list[str] = field(default_factory=list)
    """Arguments of the training, by which other settings are recognized."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds of training and evaluation, of all attempts together."""

    def spend(self, part: str, seconds: float) -> None:
        """Adds the time of an attempt."""
        self.seconds[part] = round(self.seconds.get(part, 0.0) + seconds, 1)

    @property
    def hours(self) -> float:
        """Of all parts."""
        return sum(self.seconds.values()) / 3600


@dataclass
class CheckState:
    """What is done of all scenes."""

    path: Path
    scenes: dict[str, SceneState] = field(default_factory=dict)
    process: dict[str, float] | None = None
    """Number and start of the process that works on a scene."""

    @classmethod
    def read(cls, folder: Path) -> CheckState:
        """Reads the state in an output folder; a new one if there is none.

        Raises:
            GenLangSplatError: The file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return cls(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            scenes = {name: SceneState(**values) for name, values in content["scenes"].items()}
            return cls(path, scenes, content["process"])
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise GenLangSplatError(
                f"{path} is damaged ({type(error).__name__}: {error}). Remove it: trainings continue from their "
                "checkpoints, and evaluations are repeated."
            ) from error

    def save(self) -> None:
        """Writes the file."""
        scenes = {name: asdict(state) for name, state in self.scenes.items()}
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps({"scenes": scenes, "process": self.process}, indent=1), encoding="utf-8")

    def scene(self, name: str, words: list[str]) -> SceneState:
        """Returns the state of a scene that is trained with these arguments.

        Raises:
            GenLangSplatError: It was begun with others.
        """
        state = self.scenes.setdefault(name, SceneState(words=words))
        if state.words != words:
            new = next((word for word in words if word not in state.words), "fewer settings")
            old = next((word for word in state.words if word not in words), "fewer settings")
            raise GenLangSplatError(
                f"{name} was begun in {self.path.parent} with {old}, and is now asked for with {new}. Give another "
                "--output-dir, or the same data and settings as before."
            )
        return state

    def check_no_process(self) -> None:
        """Checks that no process of an earlier check, which was killed, still works on a scene.

        Raises:
            GenLangSplatError: There is one.
        """
        if self.process is None or not psutil.pid_exists(int(self.process["pid"])):
            return
        try:
            created = psutil.Process(int(self.process["pid"])).create_time()
        except psutil.Error:
            return
        if abs(created - self.process["created"]) < 1:
            raise GenLangSplatError(
                f"The process {int(self.process['pid'])} of an earlier check still works on a scene of "
                f"{self.path.parent}. Wait for it, or end it, and run the same command again."
            )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Locks an output folder; the operating system releases the lock of a killed process.

    Raises:
        GenLangSplatError: Another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise GenLangSplatError(
            f"Another check is running with the output folder {folder}. Wait for it, or give another --output-dir."
        ) from error
    try:
        yield
    finally:
        lock.release()
