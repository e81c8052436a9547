"""The stream returns each row once per epoch, in an order that only depends on the seed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.row_subset import read_rows
from pretrain.shard_writer import ShardWriter
from pretrain.shards import ShardFolder
from pretrain.stream import EmbeddingStream
from tests.features.fakes import DIM
from tests.pretrain.shard_fakes import IDENTITY, levels_of, unit_rows, write_frames

ROOT = Path(__file__).parents[2]
FRAMES, ROWS = 20, 10
"""Content of the folder: seven scenes, the last one with two frames."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards")
    write_frames(path, FRAMES, ROWS, shard_rows=48)
    return path


def stream(folder: Path, **settings: object) -> EmbeddingStream:
    """A stream with windows much smaller than the folder, and blocks that do not divide the shards."""
    return EmbeddingStream([folder], **{"buffer_rows": 40, "block_rows": 7, **settings})


def stored(folder: Path, frames: range = range(FRAMES)) -> Tensor:
    """Expected rows of some frames."""
    rows = torch.cat([unit_rows(ROWS, seed=number) for number in frames]).half().float()
    return torch.nn.functional.normalize(rows, dim=1)


def numbers(rows: Tensor, folder: Path) -> list[int]:
    """Returns the numbers of the stored rows."""
    return (rows @ stored(folder).T).argmax(dim=1).tolist()


def test_every_row_comes_once_per_epoch_and_each_epoch_in_another_order(folder: Path) -> None:
    source = stream(folder)
    assert (source.rows, source.embedding_dim, source.encoder) == (200, DIM, IDENTITY.encoder)
    epochs = []
    for epoch in range(3):
        assert source.epoch == epoch
        epochs.append(source(200))
    for rows in epochs:
        assert sorted(numbers(rows, folder)) == list(range(200))
        torch.testing.assert_close(rows, stored(folder)[numbers(rows, folder)], atol=1e-6, rtol=0)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(200), atol=1e-6, rtol=0)
    assert numbers(epochs[0], folder) != numbers(epochs[1], folder) != numbers(epochs[2], folder)


def test_batches_may_span_windows_and_epochs(folder: Path) -> None:
    whole = stream(folder)(1000)
    source = stream(folder)
    pieces = torch.cat([source(count) for count in (1, 39, 150, 410, 0, 400)])
    assert torch.equal(pieces, whole)
    assert source.epoch == 5


def test_neighbors_in_the_stream_come_from_everywhere(folder: Path) -> None:
    order = torch.tensor(numbers(stream(folder, buffer_rows=100)(200), folder))
    shards = order // 48
    assert all(len(shards[first : first + 50].unique()) >= 4 for first in range(0, 200, 50))
    # In random order about 1 % of the consecutive pairs are neighbors.
    assert int((order.diff().abs() == 1).sum()) < 12


def test_the_seed_decides_the_order(folder: Path) -> None:
    first, again, other = stream(folder, seed=1), stream(folder, seed=1), stream(folder, seed=2)
    batch = first(200)
    assert torch.equal(batch, again(200))
    assert not torch.equal(batch, other(200))


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_together_see_what_one_sees_alone(folder: Path, world_size: int) -> None:
    """In each step the batches of all ranks together equal the batch of a single process."""
    alone = stream(folder)
    ranks = [stream(folder, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(40):
        batches = torch.stack([rank(5) for rank in ranks], dim=1)
        assert torch.equal(batches.flatten(0, 1), alone(5 * world_size))


def test_ranks_share_an_epoch_without_overlap(folder: Path) -> None:
    halves = [stream(folder, rank=rank, world_size=2)(100) for rank in range(2)]
    assert sorted(numbers(torch.cat(halves), folder)) == list(range(200))


@pytest.mark.parametrize("taken", [0, 1, 39, 40, 41, 199, 200, 201, 555])
def test_a_resumed_stream_goes_on_bit_for_bit(folder: Path, taken: int) -> None:
    source = stream(folder, seed=3)
    source(taken)
    state = json.loads(json.dumps(source.state_dict()))
    resumed = stream(folder, seed=3)
    resumed(17)
    resumed.load_state_dict(state)
    assert resumed.epoch == source.epoch
    assert torch.equal(resumed(300), source(300))


def test_a_run_may_go_on_with_another_number_of_ranks(folder: Path) -> None:
    pair = [stream(folder, rank=rank, world_size=2) for rank in range(2)]
    for rank in pair:
        rank(30)
    states = [rank.state_dict() for rank in pair]
    assert states[0] == states[1]
    alone = stream(folder)
    alone.load_state_dict(states[1])
    expected = stream(folder)(200)[60:]
    assert torch.equal(alone(140), expected)


@pytest.mark.parametrize("other", [{"seed": 9}, {"buffer_rows": 41}, {"block_rows": 8}, {"exclude_scenes": {"scene0"}}])
def test_a_state_of_another_stream_is_refused(folder: Path, other: dict[str, object]) -> None:
    with pytest.raises(GenLangSplatError, match="other shards, scenes, seed"):
        stream(folder, **other).load_state_dict(stream(folder).state_dict())


def test_scenes_that_trade_places_make_another_stream(folder: Path) -> None:
    """Both have the same shards and the same number of rows of each."""
    with pytest.raises(GenLangSplatError, match="other shards, scenes, seed"):
        stream(folder, scenes={"scene3"}).load_state_dict(stream(folder, scenes={"scene2"}).state_dict())


def test_only_the_wanted_scenes_come(folder: Path) -> None:
    wanted = stream(folder, scenes={"scene1", "scene4", "absent"})
    assert sorted(numbers(wanted(wanted.rows), folder)) == [*range(30, 60), *range(120, 150)]
    others = stream(folder, exclude_scenes={"scene1", "scene4", "absent"})
    assert sorted(numbers(others(others.rows), folder)) == [*range(30), *range(60, 120), *range(150, 200)]
    both = stream(folder, scenes={"scene1", "scene4"}, exclude_scenes={"scene4"})
    assert sorted(numbers(both(both.rows), folder)) == list(range(30, 60))


def test_several_folders_are_one_stream(folder: Path, tmp_path: Path) -> None:
    write_frames(tmp_path, 2, first=FRAMES)
    source = EmbeddingStream([folder, tmp_path], buffer_rows=50, block_rows=7)
    assert source.rows == 220
    expected = torch.cat([stored(folder), stored(folder, range(FRAMES, FRAMES + 2))])
    found = (source(220) @ expected.T).argmax(dim=1)
    assert sorted(found.tolist()) == list(range(220))


def test_folders_of_two_encoders_are_refused_with_both_named(folder: Path, tmp_path: Path) -> None:
    with ShardWriter.open(tmp_path, replace(IDENTITY, encoder="other/2"), "made") as writer:
        writer.add("one", "scene", unit_rows(4), levels_of(range(4)))
    with pytest.raises(GenLangSplatError, match=r"colors/1 .* other/2"):
        EmbeddingStream([folder, tmp_path])


def test_a_stream_without_a_row_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"None of the 200 rows .* scene0, scene1"):
        stream(folder, scenes={"absent"})
    with pytest.raises(GenLangSplatError, match="None of the 200 rows"):
        stream(folder, exclude_scenes={f"scene{number}" for number in range(7)})
    write_frames(tmp_path, 0)
    with pytest.raises(GenLangSplatError, match="None of the 0 rows"):
        stream(tmp_path)
    with pytest.raises(GenLangSplatError, match="No folder"):
        EmbeddingStream([])


@pytest.mark.parametrize(
    "settings", [{"buffer_rows": 0}, {"block_rows": 0}, {"seed": -1}, {"rank": 2, "world_size": 2}, {"rank": -1}]
)
def test_numbers_out_of_range_are_refused(folder: Path, settings: dict[str, int]) -> None:
    with pytest.raises(GenLangSplatError, match="A stream needs"):
        stream(folder, **settings)


def test_a_shard_that_goes_away_meanwhile_is_named(tmp_path: Path) -> None:
    write_frames(tmp_path, 10)
    source = stream(tmp_path, buffer_rows=16)
    for shard in ShardFolder.read(tmp_path).index.shards:
        # Deleted, not truncated, because the reader has mapped one of them.
        (tmp_path / shard.file).unlink()
    with pytest.raises(GenLangSplatError, match=r"shard-0000\d\S* is missing, truncated"):
        source(100)


STREAMING = """
import sys
from pathlib import Path
import numpy as np, torch
from pretrain.shard_writer import ShardWriter
from pretrain.shards import ShardIdentity
from pretrain.stream import EmbeddingStream
folder, rows = Path(sys.argv[1]), 1_000_000
def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
source = EmbeddingStream([folder], buffer_rows=20_000)
assert source.rows == rows, source.rows
Path("/proc/self/clear_refs").write_text("5")
before, total = memory("VmRSS"), torch.zeros(64, dtype=torch.float64)
for _ in range(100):
    total += source(rows // 100).double().sum(dim=0)
assert source.epoch == 1
print("grew by", memory("VmHWM") - before, "sum", total.sum().item())
"""


def test_a_million_rows_stream_through_a_small_buffer(tmp_path: Path) -> None:
    """Reading 122 MiB of shards only needs memory for the buffer and a batch."""
    identity = replace(IDENTITY, embedding_dim=64)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(64, dtype=torch.float64)
    with ShardWriter.open(tmp_path, identity, "made") as writer:
        for number in range(4000):
            rows = torch.randn(250, 64, generator=generator)
            writer.add(str(number), f"scene{number // 40}", rows, levels_of(rows))
            units = torch.nn.functional.normalize(rows, dim=1).half().float()
            total += torch.nn.functional.normalize(units, dim=1).double().sum(dim=0)
    assert ShardFolder.read(tmp_path).index.rows == 1_000_000
    command = [sys.executable, "-c", STREAMING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"grew by (\S+) sum (\S+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) < 50
    assert float(found[2]) == pytest.approx(total.sum().item(), abs=0.01)


def test_a_sample_is_of_the_wanted_scenes_and_bounded(folder: Path) -> None:
    everything = read_rows([folder], max_rows=1000)
    assert torch.equal(everything.embeddings, stored(folder))
    assert everything.levels.tolist() == [row % ROWS % 3 for row in range(200)]
    assert everything.scenes == [f"scene{row // 30}" for row in range(200)]
    assert set(everything.sources) == {"made"}

    sample = read_rows([folder], scenes={"scene2", "scene6"}, max_rows=20, seed=1)
    places = numbers(sample.embeddings, folder)
    assert len(set(places)) == 20 and set(places) <= {*range(60, 90), *range(180, 200)}
    assert sample.scenes == [f"scene{place // 30}" for place in places]
    assert sample.levels.tolist() == [place % ROWS % 3 for place in places]
    again = read_rows([folder], scenes={"scene2", "scene6"}, max_rows=20, seed=1)
    assert torch.equal(again.embeddings, sample.embeddings)
    assert numbers(read_rows([folder], {"scene2", "scene6"}, 20, seed=2).embeddings, folder) != places
    with pytest.raises(GenLangSplatError, match="None of the 200 rows"):
        read_rows([folder], scenes={"scene2"}, exclude_scenes={"scene2"})
    with pytest.raises(GenLangSplatError, match="max_rows=0"):
        read_rows([folder], max_rows=0)


def test_a_sample_has_every_row_as_often_as_any_other(folder: Path) -> None:
    counts = torch.zeros(200)
    for seed in range(200):
        counts[numbers(read_rows([folder], max_rows=50, seed=seed).embeddings, folder)] += 1
    # Binomial of 200 draws at a quarter: mean 50, standard deviation 6.
    assert counts.min() > 50 - 5 * 6 and counts.max() < 50 + 5 * 6
    assert 4 < counts.std() < 8
