"""Files of sections with buckets of neighbors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.ksplat import HEADER, SECTION, read_ksplat

CENTERS = [[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 30.0]]


def section(degree: int, **changes: Any) -> tuple[np.ndarray, bytes]:
    """A section of five Gaussians in buckets of two, two, none and one, each at the upper end of its bucket.

    Its harmonics are their numbers: degree, then channel, then base.
    """
    num_rest = 3 * ((degree + 1) ** 2 - 1)
    row = [
        ("means", "<u2", 3),
        ("scales", "<f2", 3),
        ("quats", "<f2", 4),
        ("colors", "u1", 4),
        ("rest", "<f2", num_rest),
    ]
    rows = np.zeros(5, dtype=np.dtype(row))
    rows["means"], rows["scales"], rows["quats"] = 65534, 0.5, (1, 0, 0, 0)
    rows["colors"], rows["rest"] = (255, 0, 51, 128), np.arange(num_rest)
    header = np.zeros(1, dtype=SECTION)
    values = {
        "count": 5,
        "room": 5,
        "capacity": 2,
        "buckets": 4,
        "block": 5.0,
        "bucket_size": 12,
        "full": 2,
        "partial": 2,
    }
    for name, value in {**values, "degree": degree, **changes}.items():
        header[name] = value
    lengths = np.array([0, 1], dtype="<u4")
    return header, lengths.tobytes() + np.array(CENTERS, dtype="<f4").tobytes() + rows.tobytes()


def write(path: Path, *sections: tuple[np.ndarray, bytes], **changes: Any) -> Path:
    header = np.zeros(1, dtype=HEADER)
    values = {"minor": 1, "sections": len(sections), "count": 5 * len(sections), "mode": 1}
    for name, value in {**values, **changes}.items():
        header[name] = value
    headers, bodies = zip(*sections, strict=True)
    path.write_bytes(b"".join([header.tobytes(), *(item.tobytes() for item in headers), *bodies]))
    return path


def test_positions_are_relative_to_the_bucket(tmp_path: Path) -> None:
    gaussians = read_ksplat(write(tmp_path / "a.ksplat", section(0)))
    expected = np.array(CENTERS)[[0, 0, 1, 1, 3]] + 2.5
    assert torch.allclose(gaussians.means, torch.from_numpy(expected).float())
    assert gaussians.scales.exp().unique().item() == 0.5 and gaussians.quats[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert torch.allclose(gaussians.opacities.sigmoid(), torch.tensor(128 / 255))


def test_harmonics_are_ordered_by_degree_and_channel_and_missing_ones_are_zero(tmp_path: Path) -> None:
    gaussians = read_ksplat(write(tmp_path / "a.ksplat", section(2), section(1), section(0)))
    assert gaussians.features_rest.shape == (15, 8, 3)
    second = gaussians.features_rest[0]
    assert second[:3].T.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert second[3:].T.tolist() == [[9, 10, 11, 12, 13], [14, 15, 16, 17, 18], [19, 20, 21, 22, 23]]
    first = gaussians.features_rest[5]
    assert torch.equal(first[:3], second[:3]) and not first[3:].any()
    assert not gaussians.features_rest[10:].any()


@pytest.mark.parametrize(
    ("sections", "changes", "message"),
    [
        ([section(0)], {"major": 1}, "no header of that format"),
        ([section(0)], {"mode": 3}, "no header of that format"),
        ([section(0)], {"count": 6}, "5 Gaussians in its sections and 6 in its header"),
        ([section(0)], {"sections": 60_000}, "truncated .ksplat file"),
        ([section(4)], {}, "harmonics of degree 4"),
        ([section(0, count=6)], {}, "6 Gaussians in a section for 5"),
        ([section(0, room=2**32 - 1)], {}, "truncated .ksplat file: it has"),
        ([section(0, buckets=2**32 - 1)], {}, "truncated .ksplat file: it has"),
        ([section(0, partial=2**32 - 1)], {}, "truncated .ksplat file: it has"),
        ([section(0, bucket_size=13, room=4, count=4)], {"count": 4}, "buckets of 13 bytes"),
        ([section(0, full=0, capacity=0, partial=0, buckets=0, room=0, count=0)], {}, "0 Gaussians in its sections"),
        ([section(0, full=5, capacity=1)], {}, "4 buckets for 5"),
    ],
)
def test_headers_that_do_not_fit_are_refused(
    sections: list[tuple[np.ndarray, bytes]], changes: dict[str, int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        read_ksplat(write(tmp_path / "a.ksplat", *sections, **changes))
