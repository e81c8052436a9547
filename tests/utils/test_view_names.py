"""File names of views: short where that is unique, and never shared."""

from __future__ import annotations

import pytest

from genlangsplat_ns.utils.view_names import answer_stems, flat_name, without_suffix


def stems(*names: str, texts: tuple[str, ...] = ("a cat",), split: str = "eval") -> list[str]:
    """The stems of all views and texts in order."""
    return [stem for own in answer_stems([(split, name) for name in names], texts) for stem in own]


def test_unique_names_are_called_by_their_stem() -> None:
    assert stems("frame_1.jpg", "cam0/frame_2.jpg") == ["eval-frame_1-0-a-cat", "eval-frame_2-0-a-cat"]
    assert stems("a.b.jpg", texts=("a cat", "A dog!")) == ["eval-a.b-0-a-cat", "eval-a.b-1-a-dog"]


def test_the_same_view_of_both_splits_needs_no_folder() -> None:
    assert answer_stems([("train", "1.jpg"), ("eval", "1.jpg")], ["x"]) == [["train-1-0-x"], ["eval-1-0-x"]]


def test_equal_names_are_called_by_their_folders() -> None:
    assert stems("cam0/1.jpg", "cam1/1.jpg", "cam1/2.jpg") == [
        "eval-cam0-1-0-a-cat",
        "eval-cam1-1-0-a-cat",
        "eval-2-0-a-cat",
    ]


def test_names_that_differ_in_their_suffix_keep_it() -> None:
    assert stems("x.jpg", "x.png") == ["eval-x.jpg-0-a-cat", "eval-x.png-0-a-cat"]


@pytest.mark.parametrize(
    "names",
    [
        ("a/b.jpg", "a-b.jpg", "c/b.jpg"),
        ("a/b.jpg", "A/B.jpg"),
        ("a/b.jpg", "a/b.png", "a-b.jpg", "a-b.png", "b.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("x/1.jpg", "x/1.jpg"),
        tuple(f"{'deep/' * 60}{camera}/{'folder/' * 20}1.jpg" for camera in ("left", "right")),
        ("a/b-c/d.jpg", "a-b/c/d.jpg", "a/b/c/d.jpg", "a-b-c-d.jpg"),
    ],
)
def test_different_views_never_share_a_file(names: tuple[str, ...]) -> None:
    found = stems(*names, texts=("a cat", "a dog"))
    assert len({stem.casefold() for stem in found}) == 2 * len(names)
    assert all("/" not in stem and len(stem) < 130 for stem in found)
    assert found == stems(*names, texts=("a cat", "a dog")), "the names do not depend on chance"


def test_the_number_of_a_text_is_not_taken_for_a_part_of_a_name() -> None:
    found = answer_stems([("eval", "a.jpg"), ("eval", "a-0.jpg")], ["1 cat", "cat"])
    assert len({stem for own in found for stem in own}) == 4


def test_paths_become_parts_of_file_names() -> None:
    assert without_suffix("cam0/a.b.jpg") == "cam0/a.b" and without_suffix("1.png") == "1"
    assert flat_name("cam0/1") == "cam0-1" and flat_name("x" * 200) == "x" * 200
