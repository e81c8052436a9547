"""Whether the answer of a tried wheel is right."""

from __future__ import annotations

import json
from pathlib import Path

from release.try_wheel import hits


def test_peaks_in_the_box_of_the_cat_are_hits_and_views_without_a_cat_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for name, category in (("0001", "cat"), ("0002", "cat"), ("0003", "dog")):
        labels = {"objects": [{"category": category, "bbox": [10, 20, 30, 40]}]}
        (tmp_path / "labels" / f"{name}.json").write_text(json.dumps(labels))
    peaks = {"0001.png": [12, 39], "0002.png": [12, 41], "0003.png": [12, 39]}
    results = [{"view": view, "peak": peak} for view, peak in peaks.items()]
    (tmp_path / "query.json").write_text(json.dumps({"results": results}))
    assert hits(tmp_path, tmp_path) == [True, False]
