"""JSON of unknown origin: what cannot be used is a ValueError that says what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genlangsplat_ns.utils import json_files
from genlangsplat_ns.utils.json_files import (
    integer_of,
    lenient_number_of,
    list_of,
    number_of,
    numbers_of,
    object_of,
    parse_json,
    read_json,
    text_of,
)


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ä": [1]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"ä": [1]}


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff", b"9" * 5000, b""])
def test_content_that_is_no_json_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "a.json")


def test_a_deep_document_is_not_a_recursion_error() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)


def test_a_too_large_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2, 3]")
    with pytest.raises(ValueError, match="has 9 bytes, expected at most 8"):
        read_json(tmp_path / "a.json", max_bytes=8)


def test_a_file_whose_values_would_need_far_more_memory_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "MIN_MEMORY", 1000)
    (tmp_path / "a.json").write_text("[" + "[],{}," * 1000 + "0]")
    with pytest.raises(ValueError, match="bytes of memory"):
        read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_text(json.dumps([0.123456789] * 1000))
    assert len(read_json(tmp_path / "b.json")) == 1000


@pytest.mark.parametrize(
    ("check", "value", "found"),
    [
        (object_of, [1], "a list, expected an object"),
        (list_of, {"a": 1}, "an object, expected a list"),
        (text_of, None, "null, expected a text"),
        (number_of, True, "true, expected a number"),
        (number_of, "1", "a text, expected a number"),
        (number_of, float("nan"), "nan, expected a finite number"),
        (number_of, 10**400, "inf, expected a finite number"),
        (integer_of, 1.5, "1.5, expected a whole number"),
        (integer_of, -1, "-1, expected a whole number from 0"),
        (lenient_number_of, "wide", "a text, expected a number"),
        (lenient_number_of, False, "false, expected a number"),
    ],
)
def test_other_types_are_named(check: Callable[..., Any], value: Any, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        check(value, "the value")


def test_values_of_the_right_type_are_returned() -> None:
    assert object_of({"a": 1}, "a") == {"a": 1} and list_of([1], "a") == [1] and text_of("ä", "a") == "ä"
    assert number_of(2, "a") == 2.0 and integer_of(3.0, "a") == 3 and lenient_number_of("-1e3", "a") == -1000.0


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        text_of("\ud800", "a name")


def test_numbers_have_the_shape_that_is_asked_for() -> None:
    assert np.array_equal(numbers_of([[1, 2, 3], [4, 5, 6]], "a", (2, 3)), [[1, 2, 3], [4, 5, 6]])
    for wrong in ([[1, 2], [3, 4]], [[1, 2, 3]], [1, 2], None, [[1, 2, 3], 4]):
        with pytest.raises(ValueError, match="has not the shape 2 x 3"):
            numbers_of(wrong, "the matrix", (2, 3))
    with pytest.raises(ValueError, match="a number of the matrix is null"):
        numbers_of([None], "the matrix", (1,))
