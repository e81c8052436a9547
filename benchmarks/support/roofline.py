"""Operations and memory traffic of the rasterizer's passes, relative to the peak of the machine.

Arithmetic is counted per pixel of a visit. A visit is a vector of sixteen pixels and a Gaussian that covers at least
one of them. All sixteen are computed, so a share of the peak is "lane-corrected" if all sixteen count, and "useful" if
only the covered pixels count. One multiply-add is two operations; comparisons, selections, absolute values, loads and
stores count as none.

    opacity     27 = 10 exponent + 13 power of two + 2 bounds + 2 transmittance
    forward     opacity + 2 C
    backward    opacity + (2 C - 1) dot product + 2 C colors + 10 gradient of the exponent + 11 moments
                + 9 absolute gradients

Bytes are the minimum: every Gaussian, list entry and pixel is read once, and every result is written once.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from genlangsplat_ns.rasterization import CompositingWeights
from support.benchmark import machine

LANES = 16
OPACITY_OPERATIONS = 27


@dataclass(frozen=True)
class Work:
    """Operations and bytes of one pass."""

    operations: float
    useful_operations: float
    bytes_moved: float

    def row(self, seconds: float, peak: float) -> dict[str, float]:
        """The counts, the rates, and the shares of the machine's peak."""
        return {
            "gigaflop": self.operations / 1e9,
            "gigaflop_per_second": self.operations / seconds / 1e9,
            "share_of_peak": self.operations / seconds / peak,
            "useful_share_of_peak": self.useful_operations / seconds / peak,
            "megabytes": self.bytes_moved / 1e6,
            "gigabytes_per_second": self.bytes_moved / seconds / 1e9,
        }


def count_work(weights: CompositingWeights, channels: int, backward: bool) -> Work:
    """The work of compositing `channels`, or of its backward pass with absolute gradients."""
    per_pixel = OPACITY_OPERATIONS + 2 * channels
    if backward:
        per_pixel = OPACITY_OPERATIONS + 4 * channels - 1 + 10 + 11 + 9
    pixels = weights.width * weights.height
    # A Gaussian has a center, a conic, an opacity and features; its gradient has the same size plus absolute values.
    values = weights.num_gaussians * (6 + channels) + pixels * (channels + 1)
    if backward:
        values += weights.num_gaussians * (8 + channels) + pixels * (channels + 1)
    return Work(
        operations=per_pixel * LANES * weights.num_visits,
        useful_operations=per_pixel * weights.num_entries,
        bytes_moved=4.0 * values,
    )


def measure_peak(threads: int) -> float:
    """Operations per second of this machine's multiply-add units, measured by a small program that is compiled here."""
    source = Path(__file__).with_name("multiply_add.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "multiply_add"
        flags = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++17", "-pthread")
        subprocess.run(["g++", *flags, str(source), "-o", str(program)], check=True)
        return float(subprocess.run([program, str(threads)], check=True, capture_output=True, text=True).stdout)


def describe(peak: float) -> str:
    """A one-line description of the machine."""
    facts = machine()
    return f"{facts['processor']}, {facts['threads']} threads, {facts['capability']}: {peak / 1e9:.0f} GFLOP/s at best"
