"""PLY files: a header that names the elements and their properties, and then the rows of each element.

The format is that of Greg Turk's description (1994), as text or binary in both byte orders. Numbers are read, and
lists, which only meshes and tracks of points have, are skipped.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Num, Shaped

TYPES = {
    **dict(zip(("char", "uchar", "short", "ushort", "int", "uint"), ("i1", "u1", "i2", "u2", "i4", "u4"), strict=True)),
    **{f"{sign}int{8 * size}": f"{sign or 'i'}{size}" for sign in ("", "u") for size in (1, 2, 4)},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
"""numpy's names of the types in a PLY file."""

NAMES = {TYPES[name]: name for name in ("char", "uchar", "short", "ushort", "int", "uint", "float", "double")}
"""Names of the types in files that are written."""

BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

MAX_LINE_BYTES = 4096
MAX_HEADER_LINES = 10_000


@dataclass(frozen=True)
class Property:
    """A column of an element: one number per row, or a list if `length_type` is not empty."""

    name: str
    type: str
    """numpy's name of the type, without byte order."""
    length_type: str = ""
    """Type of the number of entries in front of each list."""


@dataclass(frozen=True, eq=False)
class PlyElement:
    """The rows of an element, such as the vertices."""

    name: str
    names: tuple[str, ...]
    """All properties in the order of the file, also the lists."""
    rows: Shaped[np.ndarray, " rows"]
    """One field per property, except the lists."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Num[np.ndarray, " rows"]:
        """Returns a property of all rows; raises ValueError if it is a list."""
        if name in (self.rows.dtype.names or ()):
            return self.rows[name]
        raise ValueError("it is a list" if name in self.names else f"there is no {name}")


def read_elements(path: Path) -> Iterator[PlyElement]:
    """Yields the elements of a PLY file one after the other; those after the last one that is asked for are not read.

    Raises:
        ValueError: The file is damaged or not a PLY file; the message says what is wrong.
    """
    with path.open("rb") as file:
        order, elements = _read_header(file)
        text = io.TextIOWrapper(file, "ascii", errors="replace") if order == "" else None
        for name, count, properties in elements:
            numbers = np.dtype([(item.name, order + item.type) for item in properties if not item.length_type])
            if not properties:
                raise ValueError(f"the element {name} has no properties")
            if count == 0:
                rows = np.empty(0, numbers)
            elif any(item.length_type for item in properties):
                rows = _rows_with_lists(text or file, count, properties, numbers, order)
            elif text is not None:
                # A row has at least a byte, so a count that cannot be true reserves no memory.
                possible = min(count, path.stat().st_size)
                rows = np.loadtxt(text, dtype=numbers, comments=None, max_rows=possible, ndmin=1)
            else:
                rows = np.fromfile(file, numbers, min(count, _bytes_left(file) // numbers.itemsize))
            if len(rows) != count:
                raise ValueError(f"it has {len(rows)} of {count} rows of the element {name}")
            yield PlyElement(name, tuple(item.name for item in properties), rows)


def write_elements(
    path: Path, elements: Mapping[str, Shaped[np.ndarray, " rows"]], comments: Sequence[str] = ()
) -> None:
    """Writes a binary file, little-endian, with elements by name; each has a property per field of its rows."""
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {comment}" for comment in comments)]
    tables = []
    for element, rows in elements.items():
        fields = [(name, rows.dtype[name].str[1:]) for name in rows.dtype.names or ()]
        lines += [f"element {element} {len(rows)}", *(f"property {NAMES[kind]} {name}" for name, kind in fields)]
        tables.append(rows.astype([(name, f"<{kind}") for name, kind in fields], copy=False))
    with path.open("wb") as file:
        file.write("\n".join([*lines, "end_header", ""]).encode("ascii"))
        for table in tables:
            # `tofile` does not say why it could not write.
            file.write(np.ascontiguousarray(table).view(np.uint8).data)


def _read_header(file: BinaryIO) -> tuple[str, list[tuple[str, int, list[Property]]]]:
    """Returns the byte order, which is empty for text, and name, number of rows and properties of each element."""
    if file.readline(MAX_LINE_BYTES).rstrip() != b"ply":
        raise ValueError("its first line is not 'ply'")
    order: str | None = None
    elements: list[tuple[str, int, list[Property]]] = []
    for _ in range(MAX_HEADER_LINES):
        line = file.readline(MAX_LINE_BYTES).decode("ascii", errors="replace")
        match line.split():
            case ["format", kind, "1.0"] if kind in BYTE_ORDERS:
                order = BYTE_ORDERS[kind]
            case ["element", name, count] if count.isdecimal():
                elements.append((name, int(count), []))
            case ["property", "list", length, kind, name] if {length, kind} <= TYPES.keys() and elements:
                elements[-1][2].append(Property(name, TYPES[kind], TYPES[length]))
            case ["property", kind, name] if kind in TYPES and elements:
                elements[-1][2].append(Property(name, TYPES[kind]))
            case ["end_header"] if order is not None:
                return order, elements
            case ["comment" | "obj_info", *_]:
                continue
            case []:
                raise ValueError("its header has a blank line or no end")
            case _:
                raise ValueError(f"its header has the line {line.strip()!r}")
    raise ValueError(f"its header has more than {MAX_HEADER_LINES} lines")


def _bytes_left(file: BinaryIO) -> int:
    position = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(position)
    return end - position


def _rows_with_lists(
    file: BinaryIO | io.TextIOWrapper, count: int, properties: list[Property], numbers: np.dtype, order: str
) -> Shaped[np.ndarray, " rows"]:
    """Reads the numbers of rows that also have lists."""
    if isinstance(file, io.TextIOWrapper):
        rows = [_words_without_lists(words, properties) for words in _lines(file, count)]
        table = np.array(rows, dtype=str).reshape(len(rows), len(numbers.names or ()))
        columns = {field: table[:, number].astype(numbers[field]) for number, field in enumerate(numbers.names or ())}
        count = len(rows)
    else:
        same = _rows_with_lists_of_one_size(file, count, properties, order)
        columns = _numbers_between_lists(file, count, properties, order) if same is None else same
    joined = np.empty(count, numbers)
    for field, column in columns.items():
        joined[field] = column
    return joined


def _lines(file: io.TextIOWrapper, count: int) -> Iterator[list[str]]:
    for _ in range(count):
        words = file.readline().split()
        if not words:
            return
        yield words


def _words_without_lists(words: list[str], properties: list[Property]) -> list[str]:
    kept, position = [], 0
    for item in properties:
        if position >= len(words):
            raise ValueError(f"a line ends before the property {item.name}")
        if item.length_type:
            position += _checked_length(int(words[position]))
        else:
            kept.append(words[position])
        position += 1
    if position != len(words):
        raise ValueError(f"a line has {len(words)} words; expected {position}")
    return kept


def _rows_with_lists_of_one_size(
    file: BinaryIO, count: int, properties: list[Property], order: str
) -> dict[str, np.ndarray] | None:
    """Reads the numbers of rows whose lists are as long as those of the first row, as in a mesh of triangles.

    Returns None, and stays where it is, if they are not.
    """
    start, fields = file.tell(), []
    for item in properties:
        if not item.length_type:
            fields.append((item.name, order + item.type))
            file.seek(np.dtype(item.type).itemsize, io.SEEK_CUR)
            continue
        length = _read_number(file, order + item.length_type)
        file.seek(length * np.dtype(item.type).itemsize, io.SEEK_CUR)
        # A name with a blank cannot be in the file.
        fields += [(f"length of {item.name}", order + item.length_type), (f"{item.name} ", f"{length}{item.type}")]
    file.seek(start)
    layout = np.dtype(fields)
    if count * layout.itemsize <= _bytes_left(file):
        rows = np.fromfile(file, layout, count)
        lengths = [rows[name] for name in layout.names or () if name.startswith("length of ")]
        if all((length == length[0]).all() for length in lengths):
            return {item.name: rows[item.name] for item in properties if not item.length_type}
        file.seek(start)
    return None


def _numbers_between_lists(file: BinaryIO, count: int, properties: list[Property], order: str) -> dict[str, np.ndarray]:
    """Reads row by row."""
    sizes = [np.dtype(item.type).itemsize for item in properties]
    found: dict[str, list[bytes]] = {item.name: [] for item in properties if not item.length_type}
    end = file.tell() + _bytes_left(file)
    for _ in range(count):
        for item, size in zip(properties, sizes, strict=True):
            if item.length_type:
                file.seek(size * _read_number(file, order + item.length_type), io.SEEK_CUR)
            else:
                found[item.name].append(file.read(size))
        if file.tell() > end:
            break
    kinds = {item.name: order + item.type for item in properties}
    columns = {name: np.frombuffer(b"".join(parts), kinds[name]) for name, parts in found.items()}
    if file.tell() > end or any(len(column) != count for column in columns.values()):
        raise ValueError(f"it ends before row {count} of an element with lists")
    return columns


def _read_number(file: BinaryIO, kind: str) -> int:
    """Reads the length of a list."""
    size = np.dtype(kind).itemsize
    part = file.read(size)
    if len(part) < size:
        raise ValueError("it ends within a list")
    return _checked_length(int(np.frombuffer(part, kind)[0]))


def _checked_length(length: int) -> int:
    if length < 0:
        raise ValueError(f"a list has the length {length}")
    return length
