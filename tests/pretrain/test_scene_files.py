"""Files of embeddings: round trips, samples, and damage that is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.scene_files import DamagedFileError, SceneFile, read_folders, read_rows, write_scene
from tests.pretrain.embedding_fakes import DAMAGES, IDENTITY, ROWS, damage, frames, unit_rows, write_scenes


def test_a_scene_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_scene(tmp_path, IDENTITY, "made", "scene5", frames(5), {"5/9": "it is dark"})
    assert written.path == tmp_path / "made" / "scene5.safetensors"
    read = SceneFile.read(written.path)
    read.verify()
    assert read == written
    assert (read.identity, read.source, read.scene, read.rows) == (IDENTITY, "made", "scene5", ROWS)
    assert (read.frames, read.failed) == ({"5/0": 10, "5/1": 10, "5/2": 10}, {"5/9": "it is dark"})
    (tmp_path / "another").touch()
    assert read.path.stat().st_mode == (tmp_path / "another").stat().st_mode, "others may read it too"
    torch.testing.assert_close(read.embeddings(), unit_rows(ROWS, seed=5).half(), rtol=0, atol=0)
    torch.testing.assert_close(read.embeddings(7, 12), read.embeddings()[7:12], rtol=0, atol=0)
    assert read.levels().tolist() == [row % 10 % 3 for row in range(ROWS)]


def test_a_further_file_of_a_scene_gets_another_name_and_any_name_becomes_a_path(tmp_path: Path) -> None:
    scenes = ["a b", "a b", "a/b", "x" * 300]
    files = [write_scene(tmp_path, IDENTITY, "so/urce", scene, frames(0), {}) for scene in scenes]
    names = ["a_b.safetensors", "a_b-2.safetensors", "a_b-3.safetensors", f"{'x' * 100}.safetensors"]
    assert [file.path.name for file in files] == names
    assert {file.path.parent for file in files} == {tmp_path / "so_urce"}
    assert sorted(file.scene for file in read_folders((tmp_path,))) == scenes


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, kind: str) -> None:
    (file,) = write_scenes(tmp_path, 1)
    damage(file.path, kind)
    with pytest.raises(DamagedFileError, match=r"made/scene0.* damaged.* pretrain extract` again"):
        SceneFile.read(file.path).verify()


def test_all_damaged_files_are_named_at_once(tmp_path: Path) -> None:
    first, _, last = write_scenes(tmp_path, 3)
    for file in (first, last):
        damage(file.path, DAMAGES[0])
    with pytest.raises(DamagedFileError, match=r"(?s)scene0.*scene2") as caught:
        read_folders((tmp_path,))
    assert "scene1" not in str(caught.value) and str(caught.value).count("Run `python -m pretrain extract`") == 1


def test_a_file_that_goes_away_is_named(tmp_path: Path) -> None:
    (file,) = write_scenes(tmp_path, 1)
    file.path.unlink()
    for read in (file.verify, file.embeddings, file.levels):
        with pytest.raises(DamagedFileError, match=r"scene0\.safetensors is missing"):
            read()


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_embeddings_without_a_direction_are_refused(tmp_path: Path, value: float) -> None:
    rows = unit_rows(4).half()
    rows[2] = value
    levels = torch.zeros(4, dtype=torch.uint8)
    file = write_scene(tmp_path, IDENTITY, "made", "bad", {"0": (rows, levels)}, {})
    for read in (file.verify, lambda: read_folders((tmp_path,))):
        with pytest.raises(DamagedFileError, match="zero or not finite"):
            read()


def test_folders_without_embeddings_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"contains no embeddings.*pretrain extract"):
        read_folders((tmp_path,))
    save_file({"embeddings": torch.zeros(3)}, tmp_path / "shard-00000.safetensors")
    with pytest.raises(GenLangSplatError, match="no file of embeddings of this version"):
        read_folders((tmp_path,))


def test_folders_of_two_encoders_are_refused_with_both_named(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", 1)
    write_scenes(tmp_path / "b", 1, identity=replace(IDENTITY, encoder_identity="other/2"))
    with pytest.raises(GenLangSplatError, match=r"colors/1 .* other/2"):
        read_folders((tmp_path / "a", tmp_path / "b"))


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("a file instead of a folder")
    with pytest.raises(GenLangSplatError, match=r"scene0.* could not be written"):
        write_scenes(tmp_path, 1)


def test_a_sample_has_distinct_rows_of_all_files(tmp_path: Path) -> None:
    files = write_scenes(tmp_path, 4)
    everything = torch.cat([unit_rows(ROWS, seed=scene) for scene in range(4)])
    whole = read_rows(files, max_rows=1000)
    torch.testing.assert_close(whole.embeddings, everything, atol=1e-3, rtol=0)
    assert whole.sources == ["made"] * 4 * ROWS
    sample = read_rows(files, max_rows=50, seed=1)
    places = (sample.embeddings @ everything.T).argmax(dim=1)
    assert len(places.unique()) == 50 and {int(place) // ROWS for place in places} == {0, 1, 2, 3}
    assert sample.levels.tolist() == (places % 10 % 3).tolist()
    assert not torch.equal(read_rows(files, max_rows=50, seed=2).embeddings, sample.embeddings)


def test_a_sample_has_every_row_as_often_as_any_other(tmp_path: Path) -> None:
    files = write_scenes(tmp_path, 4)
    everything = torch.cat([unit_rows(ROWS, seed=scene) for scene in range(4)])
    counts = torch.zeros(4 * ROWS)
    for seed in range(200):
        counts[(read_rows(files, max_rows=30, seed=seed).embeddings @ everything.T).argmax(dim=1)] += 1
    # Binomial of 200 draws at a quarter: mean 50, standard deviation 6.
    assert counts.min() > 50 - 5 * 6 and counts.max() < 50 + 5 * 6
