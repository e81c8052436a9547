"""Times feature extraction, kills it twenty times, and measures the size of the feature store.

    python benchmarks/extraction.py --images SCENE/images --json extraction.json

Masks, crops and CLIP weights are generated, because their content does not affect the speed. The baselines follow
LangSplat: a double loop over pairs of masks, and one crop at a time. Every part that measures peak memory runs in its
own process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genlangsplat_ns.features.mask_nms import mask_nms
from support.benchmark import Benchmark, Goal, Results, Row
from support.extraction_models import THRESHOLDS, blobs, measure_embedded, measure_encoding, measure_nms, read_images
from support.extraction_store import measure_kills, weigh_store
from support.processes import in_own_process
from support.tables import print_table


def suppress_masks(count: int) -> Row:
    """Runs the fast suppression once, for the memory of its process."""
    masks, scores = blobs(count)
    mask_nms(masks, scores, *THRESHOLDS)
    return {}


def lines_of(nms: Row, encoding: Row, embedded: Row, kills: Row, store: Row) -> Iterator[tuple[str, ...]]:
    """One line per figure, with its spread."""

    def spread(timing: Row) -> list[str]:
        return [f"{timing[key]:.1f} ms" for key in ("median_ms", "min_ms", "max_ms")]

    yield f"NMS of {nms['masks']} masks", *spread(nms["fast"]), f"peak {nms['peak_memory_gb']:.2f} GB"
    yield "the same, double loop", f"{nms['plain_ms']:.0f} ms", "", "", f"identical survivors: {nms['identical']}"
    for name, timing in encoding["each"].items():
        yield f"CLIP ViT-B-16, a crop, {name}", *spread(timing), f"{1e3 / timing['median_ms']:.2f} crops/s"
    yield "conse + watershed, a view", *spread(embedded["each"]), "x".join(map(str, embedded["size"]))
    redone = f"at most {kills['most_views_redone_by_one_resume']} views redone, equal: {kills['equal_byte_for_byte']}"
    yield "kill -9", f"{kills['kills']} times", "", "", redone
    name = f"store of {store['views']} views, {store['regions']} regions each"
    costs = f"peak {store['peak_memory_gb']:.2f} GB, {store['seconds']:.0f} s"
    yield name, f"{store['megabytes']:.0f} MB", "", "", costs


def goals_of(nms: Row, encoding: Row, embedded: Row, kills: Row, store: Row) -> list[Goal]:
    """The goals."""
    each = encoding["each"]
    ratio = each["one at a time"]["median_ms"] / each["batched"]["median_ms"]
    return [
        Goal("NMS, times faster than the double loop", nms["plain_ms"] / nms["fast"]["median_ms"], ">=", 50),
        Goal("NMS, identical results", float(nms["identical"]), ">=", 1),
        Goal("NMS, peak GB of the whole process", nms["peak_memory_gb"], "<=", 1),
        Goal("CLIP, crops/s relative to one at a time", ratio, ">=", 1.5),
        Goal("conse + watershed, s per view", embedded["each"]["median_ms"] / 1e3, "<=", 1.5),
        Goal("kill -9, views redone by one resume", kills["most_views_redone_by_one_resume"], "<=", 1),
        Goal("kill -9, equal byte for byte", float(kills["equal_byte_for_byte"]), ">=", 1),
        Goal("store, MB for 300 views", store["megabytes"] * 300 / store["views"], "<=", 150),
        Goal("store, peak GB while extracting", store["peak_memory_gb"], "<=", 1),
    ]


@dataclass(frozen=True, kw_only=True)
class ExtractionBenchmark(Benchmark):
    """Time, memory and robustness of feature extraction."""

    images: Path | None = None
    """Folder of photographs; by default those of scikit-image."""
    quick: bool = False
    """Measure fewer masks, crops, views and kills."""

    def measure(self) -> Results:
        """Measures each part."""
        quick = self.quick
        images = read_images(self.images, 10 if quick else 50)
        masks = 100 if quick else 400
        rows = [
            measure_nms(masks, repetitions=3 if quick else 7) | in_own_process(suppress_masks, masks),
            measure_encoding(24 if quick else 300, blocks=3),
            measure_embedded(images),
            measure_kills(self.images, 10 if quick else 50, kills=3 if quick else 20),
            in_own_process(weigh_store, 20 if quick else 300),
        ]
        print_table(("what", "median", "from", "to", "beside"), lines_of(*rows))
        return rows, goals_of(*rows)


if __name__ == "__main__":
    ExtractionBenchmark.main()
