"""Measures the training of autoencoders: quality on unseen vectors, speed, memory, and extraction on Ray.

    python benchmarks/autoencoder.py --data DATA --json autoencoder.json

All data except the vectors of --data are generated in temporary folders. Every part that measures speed or peak memory
runs in its own process.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from genlangsplat_ns.utils.console import CONSOLE
from support.autoencoder_quality import measure_quality, print_quality, quality_goals
from support.autoencoder_ray import extract_three_times, print_ray, ray_goals
from support.autoencoder_speed import (
    measure_streaming,
    measure_throughput,
    print_streaming,
    print_throughput,
    streaming_goals,
    throughput_goals,
)
from support.benchmark import Benchmark, Goal, Results, Row
from support.processes import in_own_process

BATCHES = (64, 4096)
"""LangSplat's batch size, and one that uses a machine fully."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderBenchmark(Benchmark):
    """Quality, speed and memory of the training of autoencoders."""

    data: Path | None = None
    """Folder with `clip_embeddings` and `clip_text_embeddings_detic`; without it, quality is not measured."""
    quick: bool = False
    """Measure fewer steps, seeds, rows and pictures."""

    def measure(self) -> Results:
        """Measures and prints each part."""
        rows: list[Row] = []
        goals: list[Goal] = []
        if self.data is None:
            CONSOLE.print("[yellow]Quality is left out: it needs real CLIP vectors; name their folder with --data.")
        else:
            CONSOLE.print("Measuring quality.")
            quality = in_own_process(measure_quality, self.data, self.quick)["rows"]
            print_quality(quality)
            rows += quality
            goals += quality_goals(quality)
        throughput = measure_throughput(20_000 if self.quick else 200_000, BATCHES, repetitions=3)
        print_throughput(throughput)
        rows += throughput
        goals += throughput_goals(throughput)
        streaming = measure_streaming(300_000 if self.quick else 10_000_000, BATCHES[-1])
        if streaming is not None:
            print_streaming(streaming)
            rows.append(streaming)
            goals += streaming_goals(streaming)
        if find_spec("ray") is None:
            CONSOLE.print('[yellow]Ray is left out: it is not installed. pip install "genlangsplat-ns\\[ray]"')
        else:
            CONSOLE.print("Extracting on Ray.")
            spread_out = in_own_process(extract_three_times, 8 if self.quick else 16)
            print_ray(spread_out)
            rows.append(spread_out)
            goals += ray_goals(spread_out)
        return rows, goals


if __name__ == "__main__":
    AutoencoderBenchmark.main()
