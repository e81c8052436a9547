"""A process with all imports that forks a child for each task, lets faults happen to it, and tells how it ended.

Importing nerfstudio takes ten seconds, so hundreds of killed runs need such a parent. It has one thread, as a child
inherits only the thread that forks. Tasks come and go as lines of JSON: `python -m tests.robustness.warm_process`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.robustness.file_faults import FileFault, FileFaults, compile_library

ROOT = Path(__file__).parents[2]

NOBODY = 65534
"""The user that owns nothing."""


@dataclass(frozen=True)
class Task:
    """A run of one stage in a child process."""

    stage: str
    """Name of the stage."""
    folder: str
    """Folder in which the stage works, and below which file operations are counted."""
    step: str = "run"
    """`run`, or `prepare` for what the stage starts from."""
    fault: FileFault = field(default_factory=FileFault)
    """What happens to its files."""
    kill_after: float | None = None
    """Seconds after which it gets the signal; None for none."""
    kill_signal: int = signal.SIGKILL
    """The signal."""
    limits: dict[str, int] = field(default_factory=dict)
    """Resource limits by their names in `resource`, from the start of the work."""
    clock_offset: float = 0.0
    """Seconds that the clock jumps during the work."""
    as_nobody: bool = False
    """Work as a user without rights."""
    timeout: float = 120.0
    """Seconds after which it counts as hanging and is killed."""


@dataclass(frozen=True)
class Outcome:
    """How a child process ended."""

    status: int
    """Its exit status, negative for a signal."""
    seconds: float
    """How long it ran."""
    operations: int
    """File operations that were counted."""
    output: str
    """What it printed."""
    hung: bool
    """Whether it was killed because it took too long."""
    processes_left: list[str]
    """Commands of processes that it started and that outlived it."""


class WarmProcess:
    """The parent of the children, seen from the test. A context manager."""

    def __init__(self, scratch: Path) -> None:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(compile_library(scratch)),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
            "PYTHONWARNINGS": "ignore",
            "XDG_CACHE_HOME": str(scratch / "cache"),
            "COLUMNS": "1000",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )

    def __enter__(self) -> WarmProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=120)

    def run(self, task: Task) -> Outcome:
        """Runs a task in a child process and returns how it ended."""
        self.start(task)
        return self.finish()

    def start(self, task: Task) -> None:
        """Starts a task; `finish` waits for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(task)) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Outcome:
        """Returns how the started task ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the warm process ended with {self._process.wait()}"
        return Outcome(**json.loads(line))


def serve(stages: dict[str, Any], replies: Any) -> None:
    """Runs the tasks that come, one after the other."""
    faults = FileFaults()
    for line in sys.stdin:
        fields = json.loads(line)
        task = Task(**{**fields, "fault": FileFault(**fields["fault"])})
        work = getattr(stages[task.stage], task.step)
        replies.write(json.dumps(asdict(_supervise(task, work, faults))) + "\n")
        replies.flush()


def _supervise(task: Task, work: Callable[[Path], None], faults: FileFaults) -> Outcome:
    log = Path(f"{task.folder}.log")
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _work(task, work, faults, log)
    status, signaled, hung = None, task.kill_after is None, False
    while status is None:
        elapsed = time.monotonic() - start
        if not signaled and task.kill_after is not None and elapsed >= task.kill_after:
            os.kill(child, task.kill_signal)
            signaled = True
        if elapsed > task.timeout:
            os.kill(child, signal.SIGKILL)
            hung = True
        ended, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if ended else None
        time.sleep(0.001)
    return Outcome(
        status, time.monotonic() - start, faults.count(), log.read_text(errors="replace"), hung, _session(child)
    )


def _work(task: Task, work: Callable[[Path], None], faults: FileFaults, log: Path) -> None:
    """Does the work in the child process, which ends here."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        for standard in (1, 2):
            os.dup2(file, standard)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _change_clock(task.clock_offset)
        for name, limit in task.limits.items():
            if name == "RLIMIT_AS":
                limit += _address_space()
            resource.setrlimit(getattr(resource, name), (limit, resource.RLIM_INFINITY))
        if task.as_nobody:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        faults.arm(Path(task.folder), task.fault)
        work(Path(task.folder))
        status = 0
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException as error:  # noqa: BLE001 - the process ends like any program with an uncaught exception
        # A program in nerfstudio's style: what is not caught goes to the hook, which reports it.
        sys.excepthook(type(error), error, error.__traceback__)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            traceback.print_exc()
        os._exit(status)


def _address_space() -> int:
    """Bytes that this process has reserved."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _change_clock(offset: float) -> None:
    """Lets the clock of Python jump by an offset at the tenth look at it."""
    if not offset:
        return
    real_time, real_nanoseconds, looks = time.time, time.time_ns, 0

    def jumped() -> float:
        nonlocal looks
        looks += 1
        return offset if looks > 10 else 0.0

    time.time = lambda: real_time() + jumped()
    time.time_ns = lambda: real_nanoseconds() + int(jumped() * 1e9)


def _session(leader: int) -> list[str]:
    """Commands of the processes in the session of an ended child."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def main() -> None:
    """Imports what the stages need, and serves."""
    # Whatever an import prints must not come among the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    from tests.robustness.stages import IMPORTED, STAGES, use_fast_encoder

    for module in IMPORTED:
        import_module(module)

    torch.set_num_threads(1)
    use_fast_encoder()
    serve(STAGES, replies)
    # Without the slow end of an interpreter with many modules.
    os._exit(0)


if __name__ == "__main__":
    main()
