"""Two processes train the network that one process with the doubled batch trains."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.named_autoencoders import load_autoencoder
from pretrain.distributed import Workers, join_workers
from pretrain.training import train_autoencoder
from tests.pretrain.distributed_worker import ARCHITECTURES, HELD_OUT, ROWS, SETTINGS
from tests.pretrain.training_fakes import Drawing, assert_same_weights, identity, one_thread  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left behind."""
    folder = tmp_path_factory.mktemp("distributed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.pretrain.distributed_worker", str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """Results of each rank."""
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_curve_is_that_of_one_process_with_the_doubled_batch(
    folder: Path, found: list[dict[str, Any]], architecture: str
) -> None:
    settings = replace(SETTINGS, batch_size=2 * SETTINGS.batch_size)
    alone = train_autoencoder(Drawing(ROWS), identity(architecture), settings, held_out=HELD_OUT)
    for rank in range(2):
        assert found[rank][architecture]["losses"] == pytest.approx(alone.losses, rel=1e-5)
        cosines = [tuple(measured) for measured in found[rank][architecture]["cosines"]]
        assert cosines == [(step, pytest.approx(cosine, abs=1e-5)) for step, cosine in alone.held_out_cosines]
    first, second = (load_autoencoder(folder / f"{architecture}-{rank}.safetensors") for rank in range(2))
    assert_same_weights(first, second)


def test_an_interrupted_training_of_two_ends_as_if_nothing_had_happened(
    folder: Path, found: list[dict[str, Any]]
) -> None:
    assert all(rank["interrupted"] and rank["resumed"] for rank in found)
    assert [path.name for path in (folder / "state").iterdir()] == ["checkpoint.pt"]


def test_all_processes_hear_why_a_checkpoint_is_refused(found: list[dict[str, Any]]) -> None:
    assert all("seed is 3 there and 5 here" in rank["refused"] for rank in found)


def environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    assert join_workers("cpu") == Workers(0, 1, 0)
    environment(monkeypatch, WORLD_SIZE="1", RANK="0")
    assert join_workers("cpu") == Workers(0, 1, 0)
    assert str(Workers(5, 6, 1).device("cuda")) == "cuda:1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK"),
        ({"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0"}, "two"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_ADDR"),
    ],
)
def test_half_a_description_of_several_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], message: str
) -> None:
    environment(monkeypatch, **values)
    with pytest.raises(GenLangSplatError, match=rf"{message}.*torchrun"):
        join_workers("cpu")
