"""Folders of shards are always consistent, and report damage."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.shard_writer import ShardWriter, ingest, quarantine_damaged
from pretrain.shards import ShardFolder, ShardIdentity
from pretrain.stream import EmbeddingStream
from tests.features.fakes import DIM
from tests.pretrain.shard_fakes import IDENTITY, contents, levels_of, unit_rows, write_frames

ROOT = Path(__file__).parents[2]


def shard_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".safetensors")


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "flipped":
        content[-30] ^= 1
    path.write_bytes(bytes(content[: len(content) // 2]) if kind == "truncated" else bytes(content))
    if kind == "missing":
        path.unlink()


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_frames(tmp_path, 4)
    folder = ShardFolder.read(tmp_path)
    folder.verify()
    index = folder.index
    assert [shard.rows for shard in index.shards] == [16, 16, 8]
    assert index.identity == IDENTITY
    assert index.frames == {f"made/{number:03d}": 10 for number in range(4)}
    assert [(scene.source, scene.name) for scene in index.scenes] == [("made", "scene0"), ("made", "scene1")]
    assert [dict(shard.scene_rows) for shard in index.shards] == [{0: 16}, {0: 14, 1: 2}, {1: 8}]
    expected = []
    for number in range(4):
        embeddings = unit_rows(10, seed=number)
        expected += [
            (f"made/{number:03d}", f"scene{number // 3}", row % 3, embeddings[row].half().numpy().tobytes())
            for row in range(10)
        ]
    assert contents(tmp_path) == sorted(expected)


def test_a_second_run_goes_on_in_the_last_shard(tmp_path: Path) -> None:
    write_frames(tmp_path / "twice", 1)
    write_frames(tmp_path / "twice", 4)
    write_frames(tmp_path / "once", 4)
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")
    assert shard_files(tmp_path / "twice") == shard_files(tmp_path / "once")
    assert [shard.sha256 for shard in ShardFolder.read(tmp_path / "twice").index.shards] == [
        shard.sha256 for shard in ShardFolder.read(tmp_path / "once").index.shards
    ]


def test_embeddings_are_stored_with_unit_length(tmp_path: Path) -> None:
    embeddings = unit_rows(6)
    with ShardWriter.open(tmp_path, IDENTITY, "made") as writer:
        writer.add("long", "scene", embeddings * 1e6, levels_of(embeddings))
        writer.add("short", "scene", embeddings * 1e-6, levels_of(embeddings))
    folder = ShardFolder.read(tmp_path)
    stored = folder.open(folder.index.shards[0]).column("embeddings").float()
    torch.testing.assert_close(stored, embeddings.repeat(2, 1), atol=1e-3, rtol=0)


def test_rows_of_a_frame_that_are_nearly_the_same_are_stored_once(tmp_path: Path) -> None:
    embeddings = unit_rows(5)
    slightly_off = torch.nn.functional.normalize(embeddings[1:2] + 1e-4, dim=1)
    with ShardWriter.open(tmp_path, IDENTITY, "made") as writer:
        writer.add("one", "scene", torch.cat([embeddings, embeddings[:2], slightly_off]), levels_of(range(8)))
        writer.add("two", "scene", embeddings, levels_of(embeddings))
    index = ShardFolder.read(tmp_path).index
    assert index.frames == {"made/one": 5, "made/two": 5}
    assert index.duplicates == 3


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0])
def test_a_frame_with_an_unusable_embedding_is_recorded_and_not_stored(tmp_path: Path, value: float) -> None:
    poisoned = unit_rows(5)
    poisoned[3] = value
    with ShardWriter.open(tmp_path, IDENTITY, "made") as writer:
        writer.add("good", "scene", unit_rows(5), levels_of(poisoned))
        writer.add("bad", "scene", poisoned, levels_of(poisoned))
    index = ShardFolder.read(tmp_path).index
    assert index.failed == {"made/bad": "1 of 5 embeddings are zero or not finite"}
    assert index.frames == {"made/good": 5}
    assert {frame for frame, *_ in contents(tmp_path)} == {"made/good"}


def test_a_frame_that_succeeds_later_is_no_longer_failed(tmp_path: Path) -> None:
    with ShardWriter.open(tmp_path, IDENTITY, "made") as writer:
        writer.fail("one", "is no picture")
    with ShardWriter.open(tmp_path, IDENTITY, "made") as writer:
        assert writer.failed("one") and not writer.done("one")
        writer.add("one", "scene", unit_rows(2), levels_of(range(2)))
        assert writer.done("one") and not writer.failed("one")
    assert ShardFolder.read(tmp_path).index.failed == {}


def test_a_frame_is_added_once_and_one_without_regions_is_done(tmp_path: Path) -> None:
    rows = ("one", "scene", unit_rows(3), levels_of(range(3)))
    empty = ("empty", "scene", torch.zeros(0, DIM), torch.zeros(0, dtype=torch.int8))
    with ShardWriter.open(tmp_path, IDENTITY, "made") as writer:
        ingest(writer, [rows, rows, empty])
        assert writer.done("empty")
    index = ShardFolder.read(tmp_path).index
    assert (index.rows, index.frames) == (3, {"made/one": 3, "made/empty": 0})


def test_sources_with_the_same_keys_stay_apart(tmp_path: Path) -> None:
    for source in ("first", "second"):
        with ShardWriter.open(tmp_path, IDENTITY, source) as writer:
            assert not writer.done("one")
            writer.add("one", "scene", unit_rows(3), levels_of(range(3)))
    index = ShardFolder.read(tmp_path).index
    assert index.sources == ["first", "second"]
    assert list(index.frames) == ["first/one", "second/one"]


def test_rows_are_written_when_they_have_waited_long_enough(tmp_path: Path) -> None:
    with ShardWriter.open(tmp_path, IDENTITY, "made", flush_seconds=0.0) as writer:
        for number in range(3):
            writer.add(str(number), "scene", unit_rows(4, seed=number), levels_of(range(4)))
            assert ShardFolder.read(tmp_path).index.rows == 4 * (number + 1)
            assert len(shard_files(tmp_path)) == 1


def test_rows_are_stored_although_the_run_breaks_off(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter.open(tmp_path, IDENTITY, "made") as writer:
        writer.add("one", "scene", unit_rows(4), levels_of(range(4)))
        raise KeyboardInterrupt
    assert ShardFolder.read(tmp_path).index.frames == {"made/one": 4}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(IDENTITY, encoder="other/2"), "encoder colors/1, .* encoder other/2"),
        (replace(IDENTITY, embedding_dim=9), "embedding_dim 6, .* embedding_dim 9"),
        (replace(IDENTITY, masks="sam"), "masks tiles, .* masks sam"),
    ],
)
def test_another_kind_of_embeddings_is_refused(tmp_path: Path, other: ShardIdentity, message: str) -> None:
    write_frames(tmp_path, 1)
    with pytest.raises(GenLangSplatError, match=message):
        ShardWriter.open(tmp_path, other, "made")
    write_frames(tmp_path, 1, first=1)
    assert ShardFolder.read(tmp_path).index.rows == 20


def test_embeddings_of_another_width_are_refused_and_the_frames_before_them_stored(tmp_path: Path) -> None:
    with (
        pytest.raises(GenLangSplatError, match=r"frame two have 7 dimensions, .* with 6"),
        ShardWriter.open(tmp_path, IDENTITY, "made") as writer,
    ):
        writer.add("one", "scene", unit_rows(4), levels_of(range(4)))
        writer.add("two", "scene", unit_rows(4, width=7), levels_of(range(4)))
    assert ShardFolder.read(tmp_path).index.frames == {"made/one": 4}


def test_a_second_writer_is_refused_while_the_first_one_writes(tmp_path: Path) -> None:
    with ShardWriter.open(tmp_path, IDENTITY, "made"):
        with pytest.raises(GenLangSplatError, match="Another process is writing"):
            ShardWriter.open(tmp_path, IDENTITY, "made")
        with pytest.raises(GenLangSplatError, match="Another process is writing"):
            quarantine_damaged(tmp_path)
    write_frames(tmp_path, 1)


@pytest.mark.parametrize(("shard_rows", "file"), [(4096, "shard-00000-02020.safetensors"), (16, "")])
def test_a_full_disk_is_named_and_costs_nothing_that_was_stored(tmp_path: Path, shard_rows: int, file: str) -> None:
    """With small shards the index no longer fits on the disk."""
    write_frames(tmp_path, 2, shard_rows=shard_rows)
    before = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = ShardWriter.open(tmp_path, IDENTITY, "made")
    rows = unit_rows(2000, seed=5)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(GenLangSplatError) as caught, writer:
            writer.add("large", "scene", rows, levels_of(rows))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{tmp_path / file} could not be written (File too large)" in str(caught.value)
    assert contents(tmp_path) == before
    with ShardWriter.open(tmp_path, IDENTITY, "made") as writer:
        assert not writer.done("large")
        writer.add("large", "scene", rows, levels_of(rows))
    folder = ShardFolder.read(tmp_path)
    folder.verify()
    assert folder.index.frames["made/large"] is not None


SLOW_WRITING = """
import sys
from pathlib import Path
from pretrain.shard_writer import ShardWriter
from tests.pretrain.shard_fakes import IDENTITY, levels_of, unit_rows
with ShardWriter.open(Path(sys.argv[1]), IDENTITY, "made", 16, flush_seconds=0.0) as writer:
    for number in range(150):
        writer.add(f"{number:03d}", f"scene{number // 3}", unit_rows(10, seed=number), levels_of(range(10)))
"""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_killed_writer_leaves_a_whole_folder(tmp_path: Path, seed: int) -> None:
    """After a kill during writing and a resume, the content equals that of an uninterrupted run."""
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SLOW_WRITING, str(killed)], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not (killed.exists() and shard_files(killed)):
        assert process.poll() is None, "the writer ended before anything was stored"
        assert time.monotonic() < deadline, "the writer stores nothing"
        time.sleep(0.002)
    time.sleep(np.random.default_rng(seed).uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    process.wait()
    folder = ShardFolder.read(killed)
    folder.verify()
    survived = len(folder.index.frames)
    assert folder.index.rows == 10 * survived
    assert survived < 150, "the writer was not interrupted"

    write_frames(killed, 150)
    write_frames(tmp_path / "undisturbed", 150)
    assert contents(killed) == contents(tmp_path / "undisturbed")
    assert shard_files(killed) == shard_files(tmp_path / "undisturbed")
    assert not list(killed.glob(".shard-*")) and not list(killed.glob(".index-*"))


def test_what_no_index_names_is_cleared_by_the_next_writer(tmp_path: Path) -> None:
    write_frames(tmp_path, 1)
    kept = shard_files(tmp_path)
    for leftover in ("shard-00000-00016.safetensors", ".shard-00001-0a1b2c3d.safetensors", ".index-0a1b2c3d.json"):
        (tmp_path / leftover).write_bytes(b"half a file")
    ShardWriter.open(tmp_path, IDENTITY, "made").__exit__(None, None, None)
    assert shard_files(tmp_path) == kept
    assert sorted(os.listdir(tmp_path)) == sorted([".lock", "index.json", *kept])


def test_shards_without_an_index_are_never_cleared(tmp_path: Path) -> None:
    write_frames(tmp_path, 4)
    (tmp_path / "index.json").unlink()
    kept = shard_files(tmp_path)
    with pytest.raises(GenLangSplatError, match=r"3 shards, .* no index\.json"):
        ShardWriter.open(tmp_path, IDENTITY, "made")
    assert shard_files(tmp_path) == kept


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"contains no embedding shards: there is no index\.json"):
        ShardFolder.read(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": "embedding shards", "format_version": 1}', "\0"])
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    write_frames(tmp_path, 1)
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(GenLangSplatError, match=r"index\.json is damaged"):
        ShardFolder.read(tmp_path)
    with pytest.raises(GenLangSplatError, match=r"index\.json is damaged"):
        ShardWriter.open(tmp_path, IDENTITY, "made")


def test_an_index_of_another_version_is_named(tmp_path: Path) -> None:
    write_frames(tmp_path, 1)
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "format_version": 2}))
    with pytest.raises(GenLangSplatError, match="version 2, expected 1"):
        ShardFolder.read(tmp_path)


@pytest.mark.parametrize("kind", ["truncated", "missing"])
def test_a_truncated_or_missing_shard_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    write_frames(tmp_path, 4)
    damage(tmp_path / "shard-00001.safetensors", kind)
    with pytest.raises(GenLangSplatError, match=r"shard-00001\.safetensors is missing, truncated"):
        ShardFolder.read(tmp_path)
    with pytest.raises(GenLangSplatError, match=r"shard-00001\.safetensors is missing, truncated"):
        EmbeddingStream([tmp_path])


def test_verifying_names_and_counts_every_damaged_shard(tmp_path: Path) -> None:
    write_frames(tmp_path, 4)
    folder = ShardFolder.read(tmp_path)
    damage(tmp_path / "shard-00001.safetensors", "flipped")
    damage(tmp_path / "shard-00000.safetensors", "truncated")
    with pytest.raises(GenLangSplatError) as caught:
        folder.verify()
    message = str(caught.value)
    assert "2 of 3 shards" in message
    assert "shard-00000.safetensors is missing, truncated" in message
    assert "shard-00001.safetensors is damaged: its checksum" in message


def test_embeddings_that_someone_else_spoilt_are_found(tmp_path: Path) -> None:
    """Zero embeddings are found even if the checksum is correct."""
    write_frames(tmp_path, 1)
    path = tmp_path / shard_files(tmp_path)[0]
    columns = load_file(path)
    columns["embeddings"][4] = 0
    save_file(columns, path)
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(GenLangSplatError, match=r"1 of 1 shards .* zero or not finite"):
        ShardFolder.read(tmp_path).verify()
    with pytest.raises(GenLangSplatError, match="zero or not finite"):
        EmbeddingStream([tmp_path])(10)


@pytest.mark.parametrize("kind", ["truncated", "flipped", "missing"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_shard_is_taken_out_and_its_frames_are_made_again(tmp_path: Path, kind: str, number: int) -> None:
    write_frames(tmp_path, 6)
    assert ShardFolder.read(tmp_path).index.rows == 60
    file = f"shard-{number:05d}.safetensors"
    damage(tmp_path / file, kind)
    problems = quarantine_damaged(tmp_path)
    assert list(problems) == [file]
    folder = ShardFolder.read(tmp_path)
    folder.verify()
    assert folder.index.rows == 44
    assert list(folder.index.quarantined) == [file]
    # Rows 16 to 31 are frames 1 (from 10) to 3 (up to 39), and rows 32 to 47 are frames 3 to 4 (up to 49).
    lost = {1: ["made/002"], 2: []}[number]
    assert [frame for frame, rows in folder.index.frames.items() if rows is None] == lost
    assert sum(rows or 0 for rows in folder.index.frames.values()) == 44

    write_frames(tmp_path, 6)
    folder = ShardFolder.read(tmp_path)
    folder.verify()
    assert folder.index.rows == 44 + 10 * len(lost)
    stored = [row for row in contents(tmp_path) if row[0] in lost]
    assert [row[2] for row in stored] == sorted([level % 3 for level in range(10)] * len(lost)) or not lost
    assert quarantine_damaged(tmp_path) == {}


def test_a_damaged_last_shard_is_not_written_on(tmp_path: Path) -> None:
    write_frames(tmp_path, 2)
    damage(tmp_path / "shard-00001-00004.safetensors", "flipped")
    with pytest.raises(GenLangSplatError, match=r"1 of 1 shards .* shard-00001-00004.safetensors is damaged"):
        write_frames(tmp_path, 1, first=2)
    quarantine_damaged(tmp_path)
    write_frames(tmp_path, 1, first=2)
    ShardFolder.read(tmp_path).verify()
