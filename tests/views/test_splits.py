"""Which photographs train and which are held out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.splits import split_indices

PATHS = [Path(f"/scene/images/{number}.jpg") for number in range(10)]
SETTINGS = NerfstudioDataParserConfig()


def split(lists: dict[Any, list[str]], paths: list[Path] = PATHS, settings: Any = SETTINGS) -> dict[str, list[int]]:
    return {name: split_indices(paths, name, lists, settings) for name in ("train", "val", "test")}


def names(*numbers: int) -> list[str]:
    return [f"images/{number}.jpg" for number in numbers]


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_validation_and_test_stand_in_for_each_other(held_out: str) -> None:
    found = split({"train": names(0, 1), held_out: names(5, 6)})
    assert found == {"train": [0, 1], "val": [5, 6], "test": [5, 6]}


def test_all_three_lists() -> None:
    found = split({"train": names(0), "val": names(1), "test": names(2, 3)})
    assert found == {"train": [0], "val": [1], "test": [2, 3]}


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_without_a_training_list_the_others_train(held_out: str) -> None:
    found = split({held_out: names(0, 9)})
    assert found == {"train": list(range(1, 9)), "val": [0, 9], "test": [0, 9]}


def test_without_a_held_out_list_the_others_are_held_out() -> None:
    found = split({"train": names(*range(8))})
    assert found == {"train": list(range(8)), "val": [8, 9], "test": [8, 9]}


@pytest.mark.parametrize("spelling", ["{}.jpg", "images/{}.jpg", "/scene/images/{}.jpg", "{}", "images\\{}.jpg"])
def test_spellings_in_a_list(spelling: str) -> None:
    assert split({"test": [spelling.format(3)]})["test"] == [3]


def test_folders_tell_photographs_with_the_same_name_apart() -> None:
    paths = [Path(f"/scene/images/{camera}/0.jpg") for camera in ("left", "right")]
    assert split({"test": ["right/0.jpg"]}, paths)["test"] == [1]


def test_listed_photographs_that_are_not_in_the_scene_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert split({"test": [*names(3), "images/lost.jpg"]})["test"] == [3]
    assert "images/lost.jpg" in caplog.text


def test_a_list_of_another_scene_is_refused() -> None:
    with pytest.raises(GenLangSplatError, match=r"None of the 1 photographs.*other\.jpg"):
        split({"test": ["other.jpg"]})


@pytest.mark.parametrize("count", range(1, 21))
@pytest.mark.parametrize("mode", ["fraction", "interval"])
def test_every_photograph_trains_or_is_held_out(count: int, mode: Any) -> None:
    paths = [Path(f"{number}.jpg") for number in range(count)]
    found = split({}, paths, NerfstudioDataParserConfig(eval_mode=mode))
    assert sorted([*found["train"], *found["val"]]) == list(range(count))
    assert found["train"] and found["val"] == found["test"]


def test_file_names_that_do_not_show_the_split_are_named() -> None:
    with pytest.raises(GenLangSplatError, match=r"0\.jpg.*--eval-mode"):
        split({}, settings=NerfstudioDataParserConfig(eval_mode="filename"))


def test_a_name_of_several_photographs_is_refused() -> None:
    paths = [Path(f"/scene/images/{camera}/0.jpg") for camera in ("left", "right")]
    with pytest.raises(GenLangSplatError, match=r"0\.jpg \(.*left/0\.jpg or .*right/0\.jpg\).*Add their folders"):
        split({"test": ["0.jpg"]}, paths)


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_lists_that_leave_nothing_for_training_are_refused(held_out: str) -> None:
    with pytest.raises(GenLangSplatError, match=rf"\({held_out}\) have all 10 photographs"):
        split({held_out: names(*range(10))})


def test_photographs_in_no_list_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        split({"train": names(*range(7)), "test": names(7, 8)})
    assert "1 photographs are in no list and are not used: 9.jpg" in caplog.text
