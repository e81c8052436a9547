"""SPZ files: versions, frames of bytes, and files that would fill the memory."""

from __future__ import annotations

import gzip
import logging
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.spz import HEADER, pack_spz, read_spz, write_spz
from tests.scene_io.gaussian_fakes import trained_like

PEAK = 10_000_000
"""More memory than these tests may take, far less than the files ask for."""


def pack(version: int, count: int, degree: int = 0, bits: int = 12, flags: int = 0, body: bytes = b"") -> bytes:
    return gzip.compress(HEADER.pack(b"NGSP", version, count, degree, bits, flags, 0) + body)


def body_of(count: int, rotation: int, bases: int = 0) -> bytes:
    """Zeros of the right size."""
    return bytes(count * (9 + 1 + 3 + 3 + rotation + 3 * bases))


def test_bytes_mean_what_the_documentation_says(tmp_path: Path) -> None:
    positions = (4096).to_bytes(3, "little") + (-2048).to_bytes(3, "little", signed=True) + (1).to_bytes(3, "little")
    body = positions + bytes([51]) + bytes([255, 0, 128]) + bytes([0, 160, 255]) + bytes([255, 127, 128])
    (tmp_path / "a.spz").write_bytes(pack(2, 1, 0, 12, 1, body))
    gaussians, antialiased = read_spz(tmp_path / "a.spz")
    assert antialiased
    assert gaussians.means.tolist() == [[1.0, -0.5, 2.0**-12]]
    assert gaussians.opacities.sigmoid().item() == pytest.approx(0.2)
    assert gaussians.features_dc[0].tolist() == pytest.approx([10 / 3, -10 / 3, 0.5 / 0.15 / 255], abs=1e-5)
    assert gaussians.scales[0].tolist() == [-10.0, 0.0, 5.9375]
    # x, y, z of the first version of rotations; w is what is left.
    assert gaussians.quats[0].tolist() == pytest.approx([0.0, 1.0, -1 / 255, 1 / 255], abs=1e-6)


def test_a_written_rotation_has_the_largest_component_in_the_highest_bits(tmp_path: Path) -> None:
    gaussians = trained_like(1, 0)
    gaussians.quats[:] = torch.tensor([[0.1, -0.9, 0.2, 0.3]])
    write_spz(tmp_path / "a.spz", gaussians)
    payload = gzip.decompress((tmp_path / "a.spz").read_bytes())
    (packed,) = struct.unpack("<I", payload[-4:])
    # x is the largest of x, y, z, w; y, z and w follow with the opposite signs, 9 bits and a sign each.
    assert packed >> 30 == 0
    fields = [packed >> shift & 1023 for shift in (20, 10, 0)]
    assert [field >> 9 for field in fields] == [1, 1, 1]
    length = np.linalg.norm([0.1, -0.9, 0.2, 0.3])
    assert [field & 511 for field in fields] == [round(value / length * 2**0.5 * 511) for value in (0.2, 0.3, 0.1)]


def test_degree_4_is_read_without_its_highest_harmonics(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "a.spz").write_bytes(pack(3, 2, 4, body=body_of(2, 4, 24)))
    assert read_spz(tmp_path / "a.spz")[0].features_rest.shape == (2, 15, 3)
    assert "degree 4 are left out" in caplog.text


def test_extensions_behind_the_gaussians_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.spz").write_bytes(pack(3, 2, flags=2, body=body_of(2, 4) + b"extension"))
    assert len(read_spz(tmp_path / "a.spz")[0]) == 2


def read_within(path: Path, message: str) -> None:
    """Checks that a file is refused, and that little memory is taken for that."""
    tracemalloc.start()
    try:
        with pytest.raises(GenLangSplatError, match=message):
            read_spz(path)
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pack(1, 1, body=bytes(99)), "version 1; expected version 2 or 3"),
        (pack(5, 1, body=bytes(99)), "version 5; expected"),
        (pack(4, 1, body=bytes(99)), "version 4; expected version 2 or 3, compressed by gzip"),
        (HEADER.pack(b"NGSP", 3, 1, 0, 12, 0, 0) + bytes(99), "version 3; expected .*or version 4, which is not"),
        (pack(3, 1, 9, body=bytes(99)), "degree 9"),
        (pack(3, 1, 0, 99, body=bytes(99)), "99 fractional bits"),
        (pack(3, 0), "contains no Gaussians"),
        (pack(3, 2, body=body_of(1, 4)), "truncated SPZ file: it has 36 of 56 bytes"),
        (pack(3, 2, body=body_of(2, 4) + b"more"), "more than the 56 bytes that its header announces"),
        (pack(3, 2, body=body_of(2, 4))[:-4], "no checksum after the 56 bytes"),
        # A count that no file of this size can have, and one that zeros of this size do have.
        (pack(3, 2**32 - 1), "says that it unpacks to 85,899,345,916; expected at most 50 times its size"),
        (pack(3, 1_000_000, body=bytes(20_000_000)), "made to exhaust the memory, and was not unpacked"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.spz").write_bytes(content)
    read_within(tmp_path / "a.spz", message)


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    content = bytearray(pack(3, 100, body=np.random.default_rng(0).bytes(2000)))
    content[-6] ^= 1
    (tmp_path / "a.spz").write_bytes(bytes(content))
    read_within(tmp_path / "a.spz", "cannot be unpacked as an SPZ file")


def version_4(streams: list[bytes], sizes: list[int], count: int) -> bytes:
    header = HEADER.pack(b"NGSP", 4, count, 0, 12, 0, len(streams)) + struct.pack("<I", 32) + bytes(12)
    table = b"".join(struct.pack("<QQ", len(stream), size) for stream, size in zip(streams, sizes, strict=True))
    return header + table + b"".join(streams)


def test_a_stream_of_version_4_takes_no_more_memory_than_its_section(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="needs the extra `formats`")
    sizes = [900, 100, 300, 300, 400]
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    streams = [zstandard.ZstdCompressor().compress(bytes(size)) for size in sizes]
    (tmp_path / "a.spz").write_bytes(version_4(streams, sizes, 100))
    assert len(read_spz(tmp_path / "a.spz")[0]) == 100
    (tmp_path / "a.spz").write_bytes(version_4(streams, [900, 100, 300, 300, 500], 100))
    read_within(tmp_path / "a.spz", "a stream of it unpacks to 500 bytes; expected 400")
    (tmp_path / "a.spz").write_bytes(version_4([bomb, *streams[1:]], sizes, 100))
    tracemalloc.start()
    try:
        read_spz(tmp_path / "a.spz")
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()
    (tmp_path / "a.spz").write_bytes(version_4(streams, sizes, 100_000_000))
    read_within(tmp_path / "a.spz", "made to exhaust the memory")
    (tmp_path / "a.spz").write_bytes(version_4(streams[:4], sizes[:4], 100))
    read_within(tmp_path / "a.spz", "says that it has 4 streams, .*; expected 5")


def test_fewer_fractional_bits_make_a_smaller_file_with_rounded_positions(tmp_path: Path) -> None:
    gaussians = trained_like(2000, 0)
    rounded, exact = pack_spz(gaussians, most_bits=12, effort=9), pack_spz(gaussians)
    (tmp_path / "a.spz").write_bytes(rounded)
    read, _ = read_spz(tmp_path / "a.spz")
    assert len(rounded) < len(exact)
    assert (read.means - gaussians.means).abs().max() <= 0.5001 * 2.0**-12
    (tmp_path / "b.spz").write_bytes(exact)
    assert (read_spz(tmp_path / "b.spz")[0].means - gaussians.means).abs().max() < 2.0**-15
