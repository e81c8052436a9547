"""Arrays of unknown origin: as numpy reads them, or a ValueError before memory is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genlangsplat_ns.utils.array_files import read_array, write_array


@pytest.mark.parametrize("kind", ["<f4", ">f8", "|u1", "<i2", ">u4", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (4, 2, 3), (0, 5)])
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, kind: str, order: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape), dtype=kind, order=order)
    np.save(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy")
    assert np.array_equal(found, array) and found.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 2, 3), (0, 5)])
def test_arrays_are_written_as_numpy_writes_them(tmp_path: Path, order: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape), dtype="<f4", order=order)
    np.save(tmp_path / "a.npy", array)
    write_array(tmp_path / "b.npy", array)
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full device of Linux")
def test_an_error_of_writing_has_its_reason() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_array(Path("/dev/full"), np.zeros(3))


def test_arrays_that_numpy_would_unpickle_or_unpack_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "texts.npy", np.array(["a"]))
    for name in ("objects.npy", "texts.npy"):
        with pytest.raises(ValueError, match="expected that of a numeric array"):
            read_array(tmp_path / name)
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"of a \.npy file"):
        read_array(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", ["(99999999999, 9999999)", "(5, 7)", "(2,)", "()", "(" + "9" * 190 + ",)"])
def test_a_shape_that_the_file_does_not_have_takes_no_memory(tmp_path: Path, shape: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 6), np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    header = content[10:128].replace(b"(5, 6)", shape.encode()).rstrip() + b"\n"
    (tmp_path / "a.npy").write_bytes(content[:8] + len(header).to_bytes(2, "little") + header + content[128:])
    with pytest.raises(ValueError, match="bytes of numbers, expected"):
        read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("size", [0, 5, 9, 60, 128, 200])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 6), np.float32))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:size])
    with pytest.raises(ValueError, match="expected"):
        read_array(tmp_path / "a.npy")
