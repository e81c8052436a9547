"""LangSplat's feature files: writing, reading, and errors for invalid files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import langsplat
from genlangsplat_ns.features.langsplat import check_langsplat_files, read_langsplat_view, write_langsplat_view
from genlangsplat_ns.features.store import ViewFeatures

DIM, HEIGHT, WIDTH = 8, 9, 14


def unit_rows(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.standard_normal((count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_features(
    rng: np.random.Generator, counts: tuple[int, ...] = (5, 3, 2), size: tuple[int, int] = (HEIGHT, WIDTH)
) -> ViewFeatures:
    """Random regions with gaps, numbered over all levels."""
    offsets = np.cumsum((0, *counts))
    levels = [rng.integers(-1, count, size) for count in counts]
    levels = [np.where(level >= 0, level + offset, -1) for level, offset in zip(levels, offsets, strict=False)]
    return ViewFeatures(torch.from_numpy(np.stack(levels)).int(), torch.from_numpy(unit_rows(rng, int(offsets[-1]))))


def positions_of(height: int, width: int) -> np.ndarray:
    """Each pixel shows the pixel of the original image at the same position."""
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([columns, rows], axis=-1)


def read(folder: Path, stem: str = "frame_1", size: tuple[int, int] = (HEIGHT, WIDTH)) -> ViewFeatures:
    """Reads a view that equals the original image."""
    return read_langsplat_view(folder, stem, positions_of(*size), (size[1], size[0]), DIM)


def langsplat_lookup(folder: Path, stem: str, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Looks up the features of each pixel like LangSplat's training, and which pixels have them."""
    seg_map, feature_map = np.load(folder / f"{stem}_s.npy"), np.load(folder / f"{stem}_f.npy")
    assert seg_map.dtype == feature_map.dtype == np.float32
    assert seg_map.ndim == 3 and len(seg_map) == 4
    assert seg_map.max() + 1 == len(feature_map)
    height, width = seg_map.shape[1:]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    seg = seg_map[:, rows.reshape(-1), columns.reshape(-1)].astype(np.int64)
    mask = seg != -1
    # -1 selects the last row, which the mask removes.
    features = feature_map[seg[level]].reshape(height, width, -1)
    return features, mask[level].reshape(height, width)


def embeddings_per_pixel(features: ViewFeatures, level: int) -> np.ndarray:
    """Returns the embedding of each pixel, NaN where there is no region."""
    regions = features.regions[level].numpy()
    found = np.full((*regions.shape, DIM), np.nan, dtype=np.float32)
    for place in zip(*np.nonzero(regions >= 0), strict=True):
        found[place] = features.embeddings[regions[place]].numpy()
    return found


@settings(max_examples=20, deadline=None)
@given(
    counts=st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    seed=st.integers(0, 99),
)
def test_langsplats_own_lookup_finds_every_embedding_that_was_written(tmp_path_factory, counts, size, seed):
    folder = tmp_path_factory.mktemp("features")
    features = make_features(np.random.default_rng(seed), counts, size)
    write_langsplat_view(folder, "frame_1", features)
    if (features.regions < 0).all():
        assert np.load(folder / "frame_1_f.npy").shape == (0, DIM)
        assert (np.load(folder / "frame_1_s.npy") == -1).all()
        return
    for level in range(3):
        found, mask = langsplat_lookup(folder, "frame_1", level + 1)
        expected = embeddings_per_pixel(features, level)
        np.testing.assert_array_equal(mask, ~np.isnan(expected).any(axis=-1))
        np.testing.assert_allclose(found[mask], expected[mask], rtol=2**-11, atol=1e-7)


def test_written_files_hold_only_rows_that_show_level_by_level(tmp_path, rng):
    embeddings = unit_rows(rng, 6)
    regions = np.full((3, 2, 3), -1)
    regions[0, 0] = [5, 5, 1]
    regions[2, 1] = [3, -1, 1]
    write_langsplat_view(tmp_path, "a", ViewFeatures(torch.from_numpy(regions).int(), torch.from_numpy(embeddings)))
    maps, rows = np.load(tmp_path / "a_s.npy"), np.load(tmp_path / "a_f.npy")
    none = [-1, -1, -1]
    assert maps.tolist() == [[none, none], [[1, 1, 0], none], [none, none], [none, [3, -1, 2]]]
    # A row of two levels is written twice, because LangSplat's levels do not share rows.
    np.testing.assert_array_equal(rows, embeddings[[1, 5, 1, 3]].astype(np.float16).astype(np.float32))


def test_what_is_written_is_read_again(tmp_path, rng):
    features = make_features(rng)
    write_langsplat_view(tmp_path, "frame_1", features)
    again = read(tmp_path)
    assert again.regions.dtype == torch.int32
    assert again.embeddings.dtype == torch.float32
    assert torch.equal(again.regions, features.regions)
    torch.testing.assert_close(again.embeddings, features.embeddings, atol=1e-3, rtol=0)
    torch.testing.assert_close(again.embeddings.norm(dim=-1), torch.ones(10))


def test_a_view_without_regions_is_written_and_read_again(tmp_path):
    empty = ViewFeatures(torch.full((3, HEIGHT, WIDTH), -1, dtype=torch.int32), torch.zeros(0, DIM))
    write_langsplat_view(tmp_path, "frame_1", empty)
    again = read(tmp_path)
    assert torch.equal(again.regions, empty.regions)
    assert again.embeddings.shape == (0, DIM)


def write_raw(folder: Path, maps: np.ndarray, rows: np.ndarray, stem: str = "frame_1") -> None:
    np.save(folder / f"{stem}_s.npy", maps)
    np.save(folder / f"{stem}_f.npy", rows)


def make_langsplat(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Makes files like LangSplat: rows in order of default, s, m, l, some of them hidden."""
    counts = (7, 6, 4, 3)
    offsets = np.cumsum((0, *counts))
    maps = np.stack([rng.integers(-1, count, (height, width)) for count in counts]).astype(np.float32)
    for level, offset in enumerate(offsets[:-1]):
        maps[level][maps[level] >= 0] += offset
    return maps, unit_rows(rng, int(offsets[-1]))


def test_files_of_langsplat_are_read_without_their_default_level(tmp_path):
    rows = np.eye(DIM, dtype=np.float32)
    maps = np.array([[[0, 1, 1]], [[3, -1, 2]], [[-1, -1, 4]], [[7, 7, 6]]], dtype=np.float32)
    write_raw(tmp_path, maps, rows)
    features = read(tmp_path, size=(1, 3))
    # Rows 0 and 1 belong to the default level, and row 5 has no pixel.
    assert features.regions.tolist() == [[[1, -1, 0]], [[-1, -1, 2]], [[4, 4, 3]]]
    assert torch.equal(features.embeddings, torch.eye(DIM)[[2, 3, 4, 6, 7]])


def test_files_of_langsplat_say_the_same_before_and_after(tmp_path, rng):
    maps, rows = make_langsplat(rng, HEIGHT, WIDTH)
    maps[3, 0, 0] = len(rows) - 1
    write_raw(tmp_path, maps, rows)
    features = read(tmp_path)
    assert sorted(set(features.regions.flatten().tolist()) - {-1}) == list(range(len(features.embeddings)))
    for level in range(3):
        expected, mask = langsplat_lookup(tmp_path, "frame_1", level + 1)
        found = embeddings_per_pixel(features, level)
        np.testing.assert_array_equal(~np.isnan(found).any(axis=-1), mask)
        np.testing.assert_allclose(found[mask], expected[mask], atol=1e-6)


def test_read_embeddings_have_unit_length(tmp_path, rng):
    maps, rows = make_langsplat(rng, HEIGHT, WIDTH)
    write_raw(tmp_path, maps, 3 * rows)
    write_raw(tmp_path, maps, rows, "unit")
    torch.testing.assert_close(read(tmp_path).embeddings, read(tmp_path, "unit").embeddings)


@pytest.mark.parametrize("type_", [np.int32, np.int64, np.float64, np.float16])
def test_maps_may_come_as_any_numbers(tmp_path, rng, type_):
    maps, rows = make_langsplat(rng, HEIGHT, WIDTH)
    write_raw(tmp_path, maps, rows)
    write_raw(tmp_path, maps.astype(type_), rows.astype(np.float16), "other")
    expected, features = read(tmp_path), read(tmp_path, "other")
    assert torch.equal(features.regions, expected.regions)
    torch.testing.assert_close(features.embeddings, expected.embeddings, atol=1e-3, rtol=0)


def nearest(maps: np.ndarray, positions: np.ndarray, photograph_size: tuple[int, int]) -> np.ndarray:
    """Maps each pixel of the view to the map by a loop; pixel n covers n - 0.5 to n + 0.5."""
    height, width = maps.shape[1:]
    moved = np.full((3, *positions.shape[:2]), -1)
    for row, column in np.ndindex(positions.shape[:2]):
        across = (float(positions[row, column, 0]) + 0.5) / photograph_size[0]
        down = (float(positions[row, column, 1]) + 0.5) / photograph_size[1]
        if 0 <= across < 1 and 0 <= down < 1:
            moved[:, row, column] = maps[1:, int(down * height), int(across * width)]
    return moved


@pytest.mark.parametrize("map_size", [(9, 14), (18, 28), (27, 42), (5, 7), (4, 7), (13, 20)])
def test_a_map_of_another_size_is_resized_to_the_nearest_pixel(tmp_path, rng, map_size):
    maps, rows = make_langsplat(rng, *map_size)
    write_raw(tmp_path, maps, rows)
    positions = positions_of(HEIGHT, WIDTH)
    features = read_langsplat_view(tmp_path, "frame_1", positions, (WIDTH, HEIGHT), DIM)
    for level, expected in enumerate(nearest(maps, positions, (WIDTH, HEIGHT))):
        found = embeddings_per_pixel(features, level)
        np.testing.assert_array_equal(np.isnan(found).any(axis=-1), expected < 0)
        np.testing.assert_allclose(found[expected >= 0], rows[expected[expected >= 0]], atol=1e-6)


def test_the_sizes_langsplat_makes_of_large_photographs_are_taken(tmp_path, rng):
    # LangSplat scales images to a height of at most 1080, and truncates the width to an integer.
    for width, height in [(3024, 4032), (1999, 1333), (4946, 3286)]:
        scale = height / 1080
        maps = np.full((4, int(height / scale), int(width / scale)), -1, dtype=np.float32)
        maps[1:, -1, -1] = [0, 1, 2]
        write_raw(tmp_path, maps, unit_rows(rng, 3))
        corner = np.array([[[width - 1, height - 1], [0, 0]]], dtype=np.float32)
        features = read_langsplat_view(tmp_path, "frame_1", corner, (width, height), DIM)
        assert features.regions.tolist() == [[[0, -1]], [[1, -1]], [[2, -1]]]


@settings(max_examples=20, deadline=None)
@given(
    scale=st.sampled_from([1, 2, 3]),
    view_size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
def test_regions_follow_the_positions_and_end_at_the_edge_of_the_photograph(tmp_path_factory, scale, view_size, seed):
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(seed)
    maps, rows = make_langsplat(rng, HEIGHT * scale, WIDTH * scale)
    write_raw(folder, maps, rows)
    # In 32nds of a pixel, so that the nearest pixel does not depend on rounding.
    positions = (rng.integers(-64, 32 * np.array([WIDTH + 2, HEIGHT + 2]), (*view_size, 2)) + 0.5) / 32
    features = read_langsplat_view(folder, "frame_1", positions, (WIDTH, HEIGHT), DIM)
    for level, expected in enumerate(nearest(maps, positions, (WIDTH, HEIGHT))):
        found = embeddings_per_pixel(features, level)
        np.testing.assert_array_equal(np.isnan(found).any(axis=-1), expected < 0)
        np.testing.assert_allclose(found[expected >= 0], rows[expected[expected >= 0]], atol=1e-6)


@pytest.mark.parametrize("map_scale", [0.5, 1, 2])
@pytest.mark.parametrize("outside", [(-1, -1), (-1, 3), (3, -1), (16, 3), (3, 10), (1e6, -1e6)])
def test_a_position_outside_the_photograph_has_no_region(tmp_path, outside, map_scale):
    size = (int(10 * map_scale), int(16 * map_scale))
    maps = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None], (4, *size))
    write_raw(tmp_path, maps, np.eye(4, DIM, dtype=np.float32))
    positions = np.array([[outside, (3, 3), (0, 0), (15, 9)]], dtype=np.float32)
    features = read_langsplat_view(tmp_path, "frame_1", positions, (16, 10), DIM)
    assert features.regions.tolist() == [[[-1, level, level, level]] for level in range(3)]


def refused(folder: Path, match: str, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    with pytest.raises(GenLangSplatError, match=match):
        read(folder, size=size)


@pytest.mark.parametrize("name", ["frame_1_s.npy", "frame_1_f.npy"])
def test_a_missing_file_is_named(tmp_path, rng, name):
    write_raw(tmp_path, *make_langsplat(rng, HEIGHT, WIDTH))
    check_langsplat_files(tmp_path, ["frame_1"])
    (tmp_path / name).unlink()
    with pytest.raises(GenLangSplatError, match=rf"no .*{name}; 1 of 2 files"):
        check_langsplat_files(tmp_path, ["frame_1"])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(GenLangSplatError, match=r"no folder .*nowhere"):
        check_langsplat_files(tmp_path / "nowhere", ["frame_1"])


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("name", ["frame_1_s.npy", "frame_1_f.npy"])
def test_a_truncated_file_is_named(tmp_path, rng, name, share):
    write_raw(tmp_path, *make_langsplat(rng, HEIGHT, WIDTH))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    refused(tmp_path, rf"{name} is truncated or not an array")


def write_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, np.zeros(3))


@pytest.mark.parametrize("name", ["frame_1_s.npy", "frame_1_f.npy"])
def test_a_file_of_something_else_is_named(tmp_path, rng, name):
    maps, rows = make_langsplat(rng, HEIGHT, WIDTH)
    for write in (
        lambda path: path.write_text("404: not found"),
        lambda path: path.write_bytes(b"PK\x03\x04 an archive that is cut off"),
        write_archive,
        lambda path: np.save(path, np.full((4, HEIGHT, WIDTH), "a")),
    ):
        write_raw(tmp_path, maps, rows)
        write(tmp_path / name)
        refused(tmp_path, rf"{name} is truncated or not an array")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["frame_1_s.npy", "frame_1_f.npy"])
def test_a_pickled_array_is_refused_and_not_run(tmp_path, rng, name):
    write_raw(tmp_path, *make_langsplat(rng, HEIGHT, WIDTH))
    np.save(tmp_path / name, np.array([Payload(tmp_path / "ran")], dtype=object), allow_pickle=True)
    refused(tmp_path, rf"{name} is truncated or not an array")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shape", [(20, 3), (20, DIM + 1), (20,), (20, DIM, 1)])
def test_rows_of_another_width_are_answered_with_the_right_folder(tmp_path, rng, shape):
    write_raw(tmp_path, make_langsplat(rng, HEIGHT, WIDTH)[0], np.ones(shape, dtype=np.float32))
    refused(tmp_path, rf"frame_1_f\.npy.*{DIM} values.*language_features_dim3")


@pytest.mark.parametrize("shape", [(3, HEIGHT, WIDTH), (5, HEIGHT, WIDTH), (HEIGHT, WIDTH), (1, 4, HEIGHT, WIDTH)])
def test_another_number_of_maps_is_refused(tmp_path, rng, shape):
    write_raw(tmp_path, np.zeros(shape, dtype=np.float32), unit_rows(rng, 2))
    refused(tmp_path, r"frame_1_s\.npy.*expected 4 x height x width")


@pytest.mark.parametrize("value", [20, 1e9, -2, -1e9, 0.5, -0.5])
@pytest.mark.parametrize("level", [0, 3])
def test_a_map_that_names_no_row_is_refused(tmp_path, rng, level, value):
    maps, rows = make_langsplat(rng, HEIGHT, WIDTH)
    maps[level, 2, 3] = value
    write_raw(tmp_path, maps, rows)
    refused(tmp_path, r"frame_1_s\.npy refers to rows .* but .*frame_1_f\.npy has 20")


def test_a_map_with_regions_but_without_rows_is_refused(tmp_path, rng):
    write_raw(tmp_path, make_langsplat(rng, HEIGHT, WIDTH)[0], np.zeros((0, DIM), dtype=np.float32))
    refused(tmp_path, "refers to rows")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, rng, value):
    for place in range(2):
        arrays = make_langsplat(rng, HEIGHT, WIDTH)
        arrays[place].flat[5] = value
        write_raw(tmp_path, *arrays)
        refused(tmp_path, "not finite")


@pytest.mark.parametrize("map_size", [(14, 9), (9, 12), (9, 16), (18, 24), (18, 33), (90, 160), (0, 0)])
def test_a_map_of_other_proportions_is_refused_with_both_sizes(tmp_path, rng, map_size):
    maps = np.full((4, *map_size), -1, dtype=np.float32)
    write_raw(tmp_path, maps, unit_rows(rng, 1))
    refused(tmp_path, rf"frame_1_s\.npy is {map_size[1]}x{map_size[0]}, but the image is {WIDTH}x{HEIGHT}")


@pytest.mark.parametrize("name", ["f", "s"])
def test_a_full_disk_leaves_no_half_written_file(tmp_path, rng, monkeypatch, name):
    write_langsplat_view(tmp_path, "frame_1", make_features(rng))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = langsplat.write_array

    def fail(path: Path, array: np.ndarray) -> None:
        if (array.ndim == 2) == (name == "f"):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, array)

    monkeypatch.setattr(langsplat, "write_array", fail)
    with pytest.raises(GenLangSplatError, match="No space left"):
        write_langsplat_view(tmp_path, "frame_1", make_features(rng))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(after) == ["frame_1_f.npy", "frame_1_s.npy"]
    assert after[f"frame_1_{name}.npy"] == before[f"frame_1_{name}.npy"]


def test_files_are_put_into_a_folder_that_is_made_and_named_after_the_photograph(tmp_path, rng):
    write_langsplat_view(tmp_path / "scene" / "language_features", "frame 1.2", make_features(rng))
    names = sorted(path.name for path in (tmp_path / "scene" / "language_features").iterdir())
    assert names == ["frame 1.2_f.npy", "frame 1.2_s.npy"]


def test_a_map_of_the_undistorted_view_is_refused_because_the_lens_would_be_taken_out_twice(tmp_path, rng):
    write_langsplat_view(tmp_path, "frame_1", make_features(rng, size=(HEIGHT - 1, WIDTH - 1)))
    with pytest.raises(GenLangSplatError, match=rf"{WIDTH - 1}x{HEIGHT - 1}.*{WIDTH}x{HEIGHT}.*twice"):
        read_langsplat_view(tmp_path, "frame_1", positions_of(HEIGHT - 1, WIDTH - 1), (WIDTH, HEIGHT), DIM)
