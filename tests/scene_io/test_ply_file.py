"""PLY files as another program, plyfile, writes and reads them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genlangsplat_ns.scene_io.ply_file import NAMES, TYPES, read_elements, write_elements

FORMATS = {"text": "=", "little-endian": "<", "big-endian": ">"}

KINDS = sorted(NAMES)


def write(path: Path, form: str, **elements: np.ndarray) -> Path:
    """Writes elements with plyfile."""
    described = [plyfile.PlyElement.describe(rows, name) for name, rows in elements.items()]
    plyfile.PlyData(described, text=form == "text", byte_order=FORMATS[form]).write(str(path))
    return path


def write_lists(path: Path, form: str, lengths: list[int]) -> Path:
    """Writes points with a number before and after a list of each length, and a list of one entry; then two vertices.

    By hand: plyfile writes the numbers beside lists in the byte order of the machine.
    """
    kind = form if form == "text" else f"binary_{form.replace('-', '_')}"
    header = [
        *("ply", f"format {'ascii' if form == 'text' else kind} 1.0", f"element point {len(lengths)}"),
        *("property float before", "property list uchar int track", "property uchar after"),
        *("property list ushort double single", "element vertex 2", "property float x", "property uchar red"),
        *("end_header", ""),
    ]
    points = [(row + 0.5, length, *range(length), row, 1, row / 4) for row, length in enumerate(lengths)]
    rows: list[tuple[float, ...]] = [*points, (7.5, 20), (8.5, 30)]
    if form == "text":
        content = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()
    else:
        layouts = [*(f"fB{length}iBHd" for length in lengths), "fB", "fB"]
        order = FORMATS[form]
        content = b"".join(struct.pack(order + layout, *row) for layout, row in zip(layouts, rows, strict=True))
    path.write_bytes("\n".join(header).encode() + content)
    return path


def numbers(count: int, kinds: list[str], seed: int = 0) -> np.ndarray:
    """Rows with a column of each type, with the extremes of integers."""
    rng = np.random.default_rng(seed)
    rows = np.empty(count, [(f"column_{place}", kind) for place, kind in enumerate(kinds)])
    for name, kind in zip(rows.dtype.names, kinds, strict=True):
        if kind.lstrip(">")[0] == "f":
            rows[name] = rng.standard_normal(count)
        else:
            rows[name] = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, count, dtype=kind, endpoint=True)
    return rows


@pytest.mark.parametrize("form", FORMATS)
@given(count=st.integers(0, 5), kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_numbers_of_all_types_are_read(
    tmp_path_factory: Any, form: str, count: int, kinds: list[str], seed: int
) -> None:
    rows = numbers(count, kinds, seed)
    (element,) = read_elements(write(tmp_path_factory.mktemp("ply") / "a.ply", form, vertex=rows))
    assert element.name == "vertex" and element.names == rows.dtype.names and len(element) == count
    for name in element.names:
        # Text has as many digits as are needed for float32, and plyfile prints doubles with all of theirs.
        assert element[name].tolist() == rows[name].tolist()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("lengths", [[3, 3, 3], [0, 0], [2, 5, 0, 1], [4]], ids=str)
def test_lists_are_skipped_and_what_follows_is_read(tmp_path: Path, form: str, lengths: list[int]) -> None:
    points, vertices = read_elements(write_lists(tmp_path / "a.ply", form, lengths))
    assert points.names == ("before", "track", "after", "single")
    assert points["before"].tolist() == [row + 0.5 for row in range(len(lengths))]
    assert points["after"].tolist() == list(range(len(lengths)))
    assert vertices["x"].tolist() == [7.5, 8.5] and vertices["red"].tolist() == [20, 30]
    with pytest.raises(ValueError, match="it is a list"):
        points["track"]
    with pytest.raises(ValueError, match="there is no color"):
        points["color"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("lengths", [[3, 3, 3], [1, 0, 2]], ids=str)
def test_a_file_that_ends_early_is_damaged(tmp_path: Path, form: str, lengths: list[int]) -> None:
    path = write_lists(tmp_path / "a.ply", form, lengths)
    content = path.read_bytes()
    begin = content.index(b"end_header\n") + len(b"end_header\n")
    # A text may end within a number and still be a text of numbers, so its last one is removed as a whole.
    for end in {begin, (begin + len(content)) // 2, content.rindex(b" 30") if form == "text" else len(content) - 1}:
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r".+"):
            list(read_elements(path))


def test_a_list_of_negative_length_is_damaged(tmp_path: Path) -> None:
    properties = "property list int int track\nproperty float x"
    header = f"ply\nformat ascii 1.0\nelement vertex 1\n{properties}\nend_header\n"
    (tmp_path / "a.ply").write_text(f"{header}-9 1.5\n")
    with pytest.raises(ValueError, match="a list has the length -9"):
        list(read_elements(tmp_path / "a.ply"))


def test_elements_behind_the_one_that_is_asked_for_are_not_read(tmp_path: Path) -> None:
    path = write_lists(tmp_path / "a.ply", "little-endian", [3, 3])
    path.write_bytes(path.read_bytes()[:-3])
    elements = read_elements(path)
    assert next(elements).name == "point"
    with pytest.raises(ValueError, match="1 of 2 rows of the element vertex"):
        next(elements)


HEADER = ["ply", "format ascii 1.0", "element vertex 1", "property float x", "end_header", "1.5", ""]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("kind", ["float", "float32", "double", "float64"])
def test_lines_may_end_as_on_windows_and_comments_may_stand_anywhere(tmp_path: Path, end: str, kind: str) -> None:
    lines = [*HEADER[:2], "comment a  b", "obj_info c", HEADER[2], f"property {kind} x", "comment", *HEADER[4:]]
    (tmp_path / "a.ply").write_bytes(end.join(lines).encode())
    (element,) = read_elements(tmp_path / "a.ply")
    assert element["x"].tolist() == [1.5] and element["x"].dtype == np.dtype(TYPES[kind])


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        (0, "solid", "first line"),
        (1, "format ascii 2.0", "format ascii 2.0"),
        (1, "comment", r"no end|end_header"),
        (2, "element vertex many", "element vertex many"),
        (2, "comment", "property float x"),
        (3, "property half x", "property half x"),
        (3, "property list float128 int x", "float128"),
        (3, "comment", "has no properties"),
        (4, "", "blank line or no end"),
        (4, "comment", "1.5"),
        (5, "a", "'a'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: int, instead: str, message: str) -> None:
    lines = [instead if number == line else text for number, text in enumerate(HEADER)]
    (tmp_path / "a.ply").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        list(read_elements(tmp_path / "a.ply"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("element", [b"point 2", b"vertex 2"])
def test_a_count_that_the_file_cannot_have_takes_no_memory(tmp_path: Path, form: str, element: bytes) -> None:
    path = write_lists(tmp_path / "a.ply", form, [3, 3])
    path.write_bytes(path.read_bytes().replace(element, element[:-1] + b"99999999999999"))
    with pytest.raises(ValueError, match=r"2 of 99999999999999|ends within|ends before"):
        list(read_elements(path))


def test_written_elements_are_read_by_another_program_and_by_this_one(tmp_path: Path) -> None:
    written = {"chunk": numbers(2, ["f4"]), "vertex": numbers(7, [*KINDS, ">f4"])}
    write_elements(tmp_path / "a.ply", written, ["made by hand", "offset 1 2 3"])
    data = plyfile.PlyData.read(str(tmp_path / "a.ply"))
    read = {element.name: element for element in read_elements(tmp_path / "a.ply")}
    assert data.comments == ["made by hand", "offset 1 2 3"] and data.byte_order == "<"
    assert list(read) == list(written)
    for element, rows in written.items():
        for name in rows.dtype.names or ():
            assert data[element][name].tolist() == read[element][name].tolist() == rows[name].tolist()
