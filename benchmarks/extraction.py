"""Times feature extraction, kills it twenty times, and measures the size of the feature store.

    python benchmarks/extraction.py --images SCENE/images --json extraction.json

Masks, crops and CLIP weights are generated, because their content does not affect the speed. The baselines follow
LangSplat: a double loop over pairs of masks, and one crop at a time. Every part that measures peak memory runs in its
own process.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from common import Goal, in_own_process, options_of, worked, write_results
from extraction_models import THRESHOLDS, blobs, measure_embedded, measure_encoding, measure_nms, read_images
from extraction_store import extract_logged, measure_kills, weigh_store
from genlangsplat_ns.features.mask_nms import mask_nms
from genlangsplat_ns.utils.console import CONSOLE

Row = dict[str, Any]


def work(arguments: list[str]) -> Row:
    """Runs one part in its own process."""
    kind, *rest = arguments
    row: Row = {}
    if kind == "nms":
        masks, scores = blobs(int(rest[0]))
        mask_nms(masks, scores, *THRESHOLDS)
    elif kind == "extract":
        extract_logged(Path(rest[0]), Path(rest[2]) if len(rest) > 2 else None, int(rest[1]))
    elif kind == "store":
        folder = tempfile.mkdtemp()
        row = weigh_store(Path(folder), int(rest[0]))
        shutil.rmtree(folder)
    return row


def print_rows(nms: Row, encoding: Row, embedded: Row, kills: Row, store: Row) -> None:
    """Prints one row per figure, with its spread."""
    table = Table("what", "median", "from", "to", "beside")
    add = table.add_row

    def spread(timing: Row) -> list[str]:
        return [f"{timing[key]:.1f} ms" for key in ("median_ms", "min_ms", "max_ms")]

    add(f"NMS of {nms['masks']} masks", *spread(nms["fast"]), f"peak {nms['peak_memory_gb']:.2f} GB")
    add("the same, double loop", f"{nms['plain_ms']:.0f} ms", "", "", f"identical survivors: {nms['identical']}")
    for name, timing in encoding["each"].items():
        add(f"CLIP ViT-B-16, a crop, {name}", *spread(timing), f"{1e3 / timing['median_ms']:.2f} crops/s")
    add("conse + watershed, a view", *spread(embedded["each"]), "x".join(map(str, embedded["size"])))
    add(
        "kill -9",
        f"{kills['kills']} times",
        "",
        "",
        f"at most {kills['most_views_redone_by_one_resume']} views redone, equal: {kills['equal_byte_for_byte']}",
    )
    add(
        f"store of {store['views']} views, {store['regions']} regions each",
        f"{store['megabytes']:.0f} MB",
        "",
        "",
        f"peak {store['peak_memory_gb']:.2f} GB, {store['seconds']:.0f} s",
    )
    CONSOLE.print(table)


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


def main() -> None:
    """Runs everything, or one part in its own process."""
    parser = options_of(__doc__, "fewer masks, crops, views and kills")
    parser.add_argument("--images", type=Path, help="folder of photographs; by default those of scikit-image")
    options = parser.parse_args()
    if worked(options, work):
        return
    quick = options.quick
    images = read_images(options.images, 10 if quick else 50)
    masks = 100 if quick else 400
    rows = [
        measure_nms(masks, repetitions=3 if quick else 7) | in_own_process(__file__, "nms", str(masks)),
        measure_encoding(24 if quick else 300, blocks=3),
        measure_embedded(images),
        measure_kills(options.images, 10 if quick else 50, kills=3 if quick else 20),
        in_own_process(__file__, "store", "20" if quick else "300"),
    ]
    print_rows(*rows)
    write_results(options.json, rows, goals_of(*rows))


if __name__ == "__main__":
    main()
