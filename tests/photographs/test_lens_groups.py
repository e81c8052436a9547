"""Which photographs share a lens."""

from __future__ import annotations

import pytest

from genlangsplat_ns.photographs.lens_groups import group_by_lens
from genlangsplat_ns.photographs.settings import Intrinsics
from tests.photographs.fakes import SIZE, prepared

PHOTOGRAPHS = [
    prepared("a/1.jpg", camera="One 4 mm", focal=0.8),
    prepared("a/2.jpg", camera="One 9 mm", focal=1.8),
    prepared("b/3.jpg", camera="One 4 mm", focal=0.8),
    prepared("b/4.jpg", camera="One 4 mm", focal=0.8, size=SIZE[::-1]),
]


@pytest.mark.parametrize(
    ("intrinsics", "groups"),
    [
        ("auto", ["13", "2", "4"]),
        ("shared", ["123", "4"]),
        ("per-folder", ["12", "3", "4"]),
        ("per-photograph", list("1234")),
    ],
)
def test_photographs_of_one_size_share_a_lens(intrinsics: Intrinsics, groups: list[str]) -> None:
    found = group_by_lens(PHOTOGRAPHS, intrinsics, "auto")
    assert ["".join(name[2] for name in group.names) for group in found] == groups
    assert len({group.key for group in found}) == len(found)


def test_the_focal_length_comes_from_exif_data() -> None:
    known, unknown = (group_by_lens([item], "auto", "auto")[0] for item in (PHOTOGRAPHS[0], prepared("1.jpg")))
    assert (known.focal, known.known) == (pytest.approx(0.8 * 48), True)
    assert (unknown.focal, unknown.known) == (pytest.approx(1.2 * 48), False)


def test_distortion_is_estimated_from_enough_photographs() -> None:
    few, many = ([prepared(f"{index}.jpg") for index in range(count)] for count in (9, 10))
    assert group_by_lens(few, "auto", "auto")[0].parameters == pytest.approx([57.6, 24, 18, 0])
    assert group_by_lens(many, "auto", "auto")[0].parameters == pytest.approx([57.6, 57.6, 24, 18, 0, 0, 0, 0])
    fisheye = group_by_lens(few, "auto", "opencv-fisheye")[0]
    assert (fisheye.model, len(fisheye.parameters)) == ("OPENCV_FISHEYE", 8)
