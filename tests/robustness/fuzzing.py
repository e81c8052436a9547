"""Gives changed files to the readers of `parsers.PARSERS`, and measures what comes out.

`python -m tests.robustness.fuzzing --inputs 1000000` prints a table. An input of a parser is the same for the same seed
and number, whatever else is run, so that `--only NAME --first NUMBER --inputs 1` repeats a finding. Findings are
foreign exceptions, inputs that take longer than `MAX_SECONDS`, and inputs that take more memory than `MAX_RATIO` times
their size and `MAX_BYTES`.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from genlangsplat_ns.errors import GenLangSplatError
from tests.robustness.mutations import MUTATIONS
from tests.robustness.parsers import PARSERS, Parser, Seed

MAX_SECONDS = 5.0
HANGING = 300.0
"""Seconds without a result after which the process ends with a traceback."""

MAX_RATIO = 10
MAX_BYTES = 200 << 20

ADDRESS_SPACE = 1 << 30
"""Bytes that an input may reserve at all, so that no input takes the memory of the machine."""

MEMORY_FOLDER = Path("/dev/shm")
"""A folder in memory, where there is one; a disk would be the slowest part."""

SHOWN_FINDINGS = 20


class TooSlow(BaseException):
    """An input takes too long. It is no Exception, so that no parser catches it."""


@dataclass
class Figures:
    """What the inputs of one parser did."""

    parser: str
    inputs: int = 0
    accepted: int = 0
    """Inputs that were read without an error."""
    slowest_seconds: float = 0.0
    slowest_input: int = 0
    peak_bytes: int = 0
    """Largest growth of the memory during an input."""
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)
    """The first findings: number of the input, and what happened."""
    num_findings: int = 0

    def find(self, number: int, what: str) -> None:
        """Adds a finding."""
        self.num_findings += 1
        if len(self.findings) < SHOWN_FINDINGS:
            self.findings.append(f"input {number}: {what}")


def fuzz(parser: Parser, folder: Path, first: int, inputs: int, seed: int) -> Figures:
    """Runs inputs of a parser, whose files lie in a new folder."""
    figures, started = Figures(parser.name), time.process_time()
    seeds = parser.make(folder)
    for item in seeds:
        (folder / item.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / item.file).write_bytes(item.valid)
    for item in seeds:
        with _alarm():
            parser.read(folder / item.file)
    changed: Seed | None = None
    for number in range(first, first + inputs):
        rng = random.Random(f"{seed} {parser.name} {number}")
        item = seeds[number % len(seeds)]
        if changed is not None and changed is not item:
            (folder / changed.file).write_bytes(changed.valid)
        content = item.seal(MUTATIONS[item.kind](item.inner, rng))
        (folder / item.file).write_bytes(content)
        changed = item
        _run(parser, folder / item.file, len(content), number, figures)
    figures.seconds = time.process_time() - started
    return figures


def _run(parser: Parser, path: Path, size: int, number: int, figures: Figures) -> None:
    """Gives one file to a parser."""
    before = _reset_peak()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (reserved + ADDRESS_SPACE, hard))
    started = time.process_time()
    try:
        with _alarm():
            parser.read(path)
        figures.accepted += 1
    except GenLangSplatError:
        pass
    except TooSlow:
        figures.find(number, f"more than {MAX_SECONDS} s")
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/" not in frame.filename]
        where = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in own[:5]) or place.name
        figures.find(number, f"{type(error).__name__}: {str(error)[:100]!r} at {where}")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY if hard < 0 else hard, hard))
    seconds = time.process_time() - started
    grown = _peak() - before
    if grown > MAX_RATIO * size + MAX_BYTES:
        figures.find(number, f"{grown:,} bytes of memory for a file of {size:,}")
    figures.inputs += 1
    figures.peak_bytes = max(figures.peak_bytes, grown)
    if seconds > figures.slowest_seconds:
        figures.slowest_seconds, figures.slowest_input = seconds, number


@contextmanager
def _alarm() -> Iterator[None]:
    """Raises TooSlow in Python code that takes too long; ends the process in other code that hangs."""

    def ring(signal_number: int, frame: FrameType | None) -> None:
        raise TooSlow

    # Time of the processor, because other programs may have it for a while.
    previous = signal.signal(signal.SIGPROF, ring)
    faulthandler.dump_traceback_later(HANGING, exit=True)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGPROF, previous)


def _reset_peak() -> int:
    """Resets the peak of the memory of this process, and returns it."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:", 1)[1].split(None, 1)[0]) << 10


def fuzz_all(inputs: int, seed: int, only: Sequence[str] = (), first: int = 0) -> list[Figures]:
    """Shares `inputs` among the parsers, by the weight of each."""
    chosen = [parser for parser in PARSERS if not only or parser.name in only]
    total = sum(parser.weight for parser in chosen)
    figures = []
    for parser in chosen:
        count = max(1, round(inputs * parser.weight / total))
        with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as folder:
            figures.append(fuzz(parser, Path(folder), first, count, seed))
        _print(_row(figures[-1]), figures[-1].findings)
    return figures


COLUMNS = ("parser", "inputs", "accepted", "findings", "slowest, ms", "peak, MB", "mean, ms")


def _row(item: Figures) -> list[str]:
    """The cells of a parser."""
    slowest, mean = 1000 * item.slowest_seconds, 1000 * item.seconds / max(item.inputs, 1)
    counts = [f"{number:,}" for number in (item.inputs, item.accepted, item.num_findings)]
    return [item.parser, *counts, f"{slowest:.1f}", f"{item.peak_bytes / 1e6:.1f}", f"{mean:.2f}"]


def _print(cells: Sequence[str], findings: Sequence[str] = ()) -> None:
    lines = [f"{cells[0]:26}" + "".join(f"{cell:>12}" for cell in cells[1:]), *(f"    {line}" for line in findings)]
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()


def main() -> None:
    """Runs all parsers, prints a table, and writes it as JSON."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--inputs", type=int, default=20_000, help="Number of inputs of all parsers together.")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--first", type=int, default=0, help="Number of the first input of each parser.")
    command.add_argument("--only", nargs="*", default=[], help="Names of parsers; default: all.")
    command.add_argument("--json", type=Path, help="File for the figures.")
    given = command.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    _print(COLUMNS)
    figures = fuzz_all(given.inputs, given.seed, given.only, given.first)
    total, findings = sum(item.inputs for item in figures), sum(item.num_findings for item in figures)
    _print([f"{total:,} inputs with the seed {given.seed}, {findings} findings"])
    if given.json:
        document = {"seed": given.seed, "inputs": total, "findings": findings}
        given.json.write_text(json.dumps({**document, "rows": [asdict(item) for item in figures]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
