"""Training with two processes gives the same result as one process with twice the batch size."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import ARCHITECTURES
from genlangsplat_ns.language.named_autoencoders import load_autoencoder
from pretrain.distributed import Workers, workers_from_environment
from pretrain.tensor_source import TensorSource
from pretrain.train import train_autoencoder
from tests.pretrain.distributed_worker import HELD_OUT, ROWS, SETTINGS
from tests.pretrain.training_fakes import assert_same_weights, identity, one_thread  # noqa: F401


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of two processes under torchrun (see distributed_worker.py)."""
    folder = tmp_path_factory.mktemp("distributed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("-m", "tests.pretrain.distributed_worker", str(folder)),
        ],
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


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_loss_curve_is_that_of_one_process_with_the_doubled_batch(
    found: list[dict[str, Any]], architecture: str
) -> None:
    settings = replace(SETTINGS, batch_size=2 * SETTINGS.batch_size)
    alone = train_autoencoder(TensorSource(ROWS), identity(architecture), settings, held_out=HELD_OUT)
    half_precision = train_autoencoder(TensorSource(ROWS), identity(architecture), SETTINGS)
    for rank in range(2):
        assert found[rank][architecture]["losses"] == pytest.approx(alone.losses, rel=1e-5)
        cosines = [tuple(measured) for measured in found[rank][architecture]["cosines"]]
        # The gradient of a bias before batch normalization is only rounding noise, which changes the cosine slightly.
        within = 1e-3 if architecture == "langsplat" else 1e-5
        assert cosines == [(step, pytest.approx(cosine, abs=within)) for step, cosine in alone.held_out_cosines]
    assert half_precision.losses != pytest.approx(alone.losses, rel=1e-2)


def test_shared_batch_normalization_works_in_lower_precision_too(found: list[dict[str, Any]]) -> None:
    assert found[0]["bfloat16"] == found[1]["bfloat16"] != found[0]["langsplat"]["losses"]
    lower, full = torch.tensor(found[0]["bfloat16"]), torch.tensor(found[0]["langsplat"]["losses"])
    # Rounding differs between machines and changes single steps, but the whole curves are similar.
    assert (lower - full).norm() < 0.05 * full.norm()


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_all_processes_end_with_the_same_weights(folder: Path, found: object, architecture: str) -> None:
    first, second = (load_autoencoder(folder / f"{architecture}-{rank}.safetensors") for rank in range(2))
    assert_same_weights(first, second)


def test_only_the_first_process_writes(folder: Path, found: object) -> None:
    assert len(list((folder / "log-mlp").iterdir())) == 1
    assert [path.name for path in sorted((folder / "state").iterdir())] == [
        "step-000000028.safetensors",
        "step-000000030.safetensors",
    ]


def test_an_interrupted_training_of_two_ends_as_if_nothing_had_happened(found: list[dict[str, Any]]) -> None:
    assert all(rank["interrupted"] and rank["resumed"] for rank in found)


def test_processes_that_draw_the_same_rows_are_refused(found: list[dict[str, Any]]) -> None:
    assert all("processes 0 and 1 use the same rows" in rank["same rows"] for rank in found)


def test_all_processes_hear_why_a_checkpoint_is_refused(found: list[dict[str, Any]]) -> None:
    assert all("seed is 3 there and 5 here" in rank["other settings"] for rank in found)


def environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    assert workers_from_environment() == Workers(0, 1, 0)
    environment(monkeypatch, WORLD_SIZE="1", RANK="0")
    assert workers_from_environment() == Workers(0, 1, 0)


def test_torchrun_says_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    environment(monkeypatch, WORLD_SIZE="6", RANK="5", LOCAL_RANK="1", **place)
    workers = workers_from_environment()
    assert workers == Workers(5, 6, 1)
    assert not workers.is_first
    assert workers.device("cuda") == torch.device("cuda:1")
    assert workers.device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "integers"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR and MASTER_PORT are not set"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "rank is not below the world size"),
    ],
)
def test_half_a_description_of_several_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], message: str
) -> None:
    environment(monkeypatch, **values)
    with pytest.raises(GenLangSplatError, match=rf"{message}.*torchrun"):
        workers_from_environment()
