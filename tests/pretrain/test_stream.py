"""The stream returns each row once per epoch, in an order that only depends on the seed, with bounded memory."""

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
from pretrain.scene_files import SceneFile, write_scene
from pretrain.stream import EmbeddingStream
from tests.pretrain.embedding_fakes import IDENTITY, ROWS, unit_rows, write_scenes

ROOT = Path(__file__).parents[2]
SCENES = 7


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[SceneFile]:
    return write_scenes(tmp_path_factory.mktemp("embeddings"), SCENES)


def stream(files: list[SceneFile], **settings: int) -> EmbeddingStream:
    """A stream with windows much smaller than the files together, and blocks that do not divide them."""
    return EmbeddingStream(files, **{"window_blocks": 6, "block_rows": 7, **settings})


def numbers(rows: Tensor) -> list[int]:
    """Returns the numbers of the stored rows."""
    stored = torch.cat([unit_rows(ROWS, seed=scene) for scene in range(SCENES)])
    places = (rows @ stored.T).argmax(dim=1)
    torch.testing.assert_close(rows, stored[places], atol=1e-3, rtol=0)
    return places.tolist()


def test_every_row_comes_once_per_epoch_and_each_epoch_in_another_order(files: list[SceneFile]) -> None:
    source = stream(files)
    assert source.rows == SCENES * ROWS == 210
    epochs = [numbers(source(210)) for _ in range(3)]
    assert all(sorted(epoch) == list(range(210)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    torch.testing.assert_close(source(50).norm(dim=1), torch.ones(50))


def test_batches_may_span_windows_and_epochs(files: list[SceneFile]) -> None:
    source = stream(files)
    pieces = torch.cat([source(count) for count in (1, 39, 150, 410, 400)])
    assert torch.equal(pieces, stream(files)(1000))


def test_neighbors_in_the_stream_come_from_everywhere(files: list[SceneFile]) -> None:
    order = torch.tensor(numbers(stream(files, window_blocks=15)(210)))
    assert all(len((order[first : first + 50] // ROWS).unique()) >= 4 for first in range(0, 200, 50))
    # In random order about 1 % of the consecutive pairs are neighbors.
    assert int((order.diff().abs() == 1).sum()) < 12


def test_the_seed_decides_the_order(files: list[SceneFile]) -> None:
    batch = stream(files, seed=1)(200)
    assert torch.equal(batch, stream(files, seed=1)(200))
    assert not torch.equal(batch, stream(files, seed=2)(200))


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_together_see_what_one_sees_alone(files: list[SceneFile], world_size: int) -> None:
    """In each step the batches of all ranks together equal the batch of a single process."""
    alone = stream(files)
    ranks = [stream(files, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(40):
        batches = torch.stack([rank(5) for rank in ranks], dim=1)
        assert torch.equal(batches.flatten(0, 1), alone(5 * world_size))


@pytest.mark.parametrize("taken", [0, 1, 41, 42, 43, 209, 210, 211, 555])
def test_a_resumed_stream_goes_on_bit_for_bit(files: list[SceneFile], taken: int) -> None:
    source = stream(files, seed=3)
    if taken:
        source(taken)
    state = json.loads(json.dumps(source.state_dict()))
    resumed = stream(files, seed=3)
    resumed(17)
    resumed.load_state_dict(state)
    assert torch.equal(resumed(300), source(300))


@pytest.mark.parametrize("other", [{"seed": 9}, {"window_blocks": 5}, {"block_rows": 8}])
def test_a_state_of_another_stream_is_refused(files: list[SceneFile], other: dict[str, int]) -> None:
    with pytest.raises(GenLangSplatError, match="other embeddings or another seed"):
        stream(files, **other).load_state_dict(stream(files).state_dict())
    with pytest.raises(GenLangSplatError, match="other embeddings or another seed"):
        stream(files[1:]).load_state_dict(stream(files[:-1]).state_dict())


def test_files_without_rows_are_refused_and_those_that_go_away_are_named(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="have no embeddings"):
        EmbeddingStream([write_scene(tmp_path, IDENTITY, "made", "empty", {}, {})])
    files = write_scenes(tmp_path, 4)
    source = stream(files)
    for file in files:
        file.path.unlink()
    with pytest.raises(GenLangSplatError, match=r"scene\d.safetensors is missing"):
        source(200)


STREAMING = """
import sys
from pathlib import Path
import torch
from pretrain.scene_files import read_folders
from pretrain.stream import EmbeddingStream
def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
source = EmbeddingStream(read_folders([Path(sys.argv[1])]), window_blocks=160)
Path("/proc/self/clear_refs").write_text("5")
before, total = memory("VmRSS"), torch.zeros(64, dtype=torch.float64)
for _ in range(100):
    total += source(source.rows // 100).double().sum(dim=0)
print("rows", source.rows, "grew by", memory("VmHWM") - before, "sum", total.sum().item())
"""


def test_half_a_million_rows_stream_through_a_small_window(tmp_path: Path) -> None:
    """Reading 61 MiB of files only needs memory for the windows and a batch."""
    identity = replace(IDENTITY, embedding_dim=64)
    generator, total = torch.Generator().manual_seed(0), 0.0
    for scene in range(50):
        rows = torch.nn.functional.normalize(torch.randn(10_000, 64, generator=generator), dim=1).half()
        total += float(torch.nn.functional.normalize(rows.float(), dim=1).double().sum())
        frames = {str(scene): (rows, torch.zeros(10_000, dtype=torch.uint8))}
        write_scene(tmp_path, identity, "made", f"scene{scene}", frames, {})
    command = [sys.executable, "-c", STREAMING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    found = re.search(r"rows 500000 grew by (\S+) sum (\S+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < 30
    assert float(found[2]) == pytest.approx(total, abs=0.01)
