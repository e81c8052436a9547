"""Training: convergence, schedules, best weights, early stopping, and an interruption that changes nothing."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import ARCHITECTURES
from genlangsplat_ns.language.autoencoder import Autoencoder
from pretrain.settings import TrainingSettings
from pretrain.training import TrainingResult, train_autoencoder
from tests.pretrain.training_fakes import (
    Drawing,
    assert_same_weights,
    identity,
    one_thread,  # noqa: F401
    reconstruction_cosine,
    unit_rows,
)

QUICK = TrainingSettings(steps=60, batch_size=64, seed=3)
FROZEN = replace(QUICK, steps=1, learning_rate=0.0)
"""Settings that train nothing, so that the result has the initial weights."""


def source() -> Drawing:
    return Drawing(unit_rows(512, seed=1, rank=5))


class Turning:
    """Gives rows like the held-out ones for some calls, and others, or the same one again and again, afterwards."""

    def __init__(self, turns_after: int, other: Tensor | None = None) -> None:
        self._left, self._good, self._other = (
            turns_after,
            source(),
            Drawing(unit_rows(512, 2) if other is None else other),
        )

    def __call__(self, count: int) -> Tensor:
        self._left -= 1
        return (self._good if self._left >= 0 else self._other)(count)


@pytest.fixture
def held_out() -> Tensor:
    return unit_rows(256, seed=9, rank=5)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_learns(architecture: str, held_out: Tensor) -> None:
    settings = replace(QUICK, steps=150, pca_rows=0)
    untrained = train_autoencoder(source(), identity(architecture), replace(settings, steps=1, learning_rate=0.0))
    trained = train_autoencoder(source(), identity(architecture), settings)
    before, after = (reconstruction_cosine(result.autoencoder, held_out) for result in (untrained, trained))
    assert after > before + 0.5
    assert sum(trained.losses[-10:]) < 0.5 * sum(trained.losses[:10])
    assert not trained.autoencoder.training
    assert not any(parameter.requires_grad for parameter in trained.autoencoder.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "l1"},
        {"schedule": "cosine"},
        {"schedule": "cosine", "warmup": 0.0},
        {"average_decay": 0.9},
        {"mix": 0.5, "mix_noise": 0.01},
        {"gradient_clip": 0.1},
        {"precision": "bfloat16"},
    ],
)
def test_every_choice_trains_another_network_as_faithfully(change: dict[str, Any], held_out: Tensor) -> None:
    plain, chosen = (
        train_autoencoder(source(), identity(), replace(QUICK, steps=100, **settings)) for settings in ({}, change)
    )
    plain_cosine, chosen_cosine = (reconstruction_cosine(result.autoencoder, held_out) for result in (plain, chosen))
    assert chosen_cosine != plain_cosine
    assert chosen_cosine > 0.85
    assert abs(chosen_cosine - plain_cosine) < 0.05


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.999])
def test_every_length_and_warmup_trains(schedule: Any, warmup: float) -> None:
    for steps in (1, 2, 3, 9, 10):
        settings = replace(QUICK, steps=steps, warmup=warmup, schedule=schedule)
        result = train_autoencoder(source(), identity("linear"), settings)
        assert len(result.losses) == steps and result.losses[-1] < 3


def test_the_first_weights_fade_from_the_average(held_out: Tensor) -> None:
    """With a plain decay of 0.999 the average would still be the first weights after 100 steps."""
    settings = replace(QUICK, steps=100, average_decay=0.999)
    assert reconstruction_cosine(train_autoencoder(source(), identity(), settings).autoencoder, held_out) > 0.8


def test_the_first_loss_is_that_of_the_first_rows_under_the_starting_weights() -> None:
    result = train_autoencoder(source(), identity(), FROZEN)
    cosine = reconstruction_cosine(result.autoencoder, source()(FROZEN.batch_size))
    assert result.losses == [pytest.approx(3 * (1 - cosine), abs=1e-5)]
    torch.manual_seed(FROZEN.seed)
    assert_same_weights(result.autoencoder, Autoencoder(identity()))


@pytest.mark.parametrize("architecture", ["linear", "residual"])
def test_linear_maps_start_from_the_principal_components_of_the_source(architecture: str) -> None:
    rows = unit_rows(300, seed=1)
    result = train_autoencoder(lambda count: rows[:count], identity(architecture), replace(FROZEN, pca_rows=300))
    # Principal directions of the uncentered second moments.
    basis = torch.linalg.eigh(rows.T @ rows)[1][:, -4:]
    expected = F.cosine_similarity(rows @ basis @ basis.T, rows, dim=-1).mean().item()
    assert reconstruction_cosine(result.autoencoder, rows) == pytest.approx(expected, abs=1e-4)


def test_the_best_weights_are_kept_and_training_stops_early(held_out: Tensor) -> None:
    settings = replace(QUICK, steps=200, eval_every=10, patience=3)
    result = train_autoencoder(Turning(60), identity(), settings, held_out=held_out)
    best = max(result.held_out_cosines, key=lambda measured: measured[1])
    assert result.best_step == best[0] <= 80
    assert reconstruction_cosine(result.autoencoder, held_out) == pytest.approx(best[1], abs=1e-5)
    assert len(result.losses) == best[0] + 30 < 200


@pytest.mark.parametrize("value", [0.0, float("nan"), 3.0])
def test_rows_that_are_no_unit_vectors_are_refused_before_they_are_used(value: float) -> None:
    bad = torch.full((1, 24), value)
    with pytest.raises(GenLangSplatError, match=r"before step 6, gave 64 bad rows of 64; the first is row 0 of length"):
        train_autoencoder(Turning(5, bad), identity(), QUICK)
    with pytest.raises(GenLangSplatError, match="held-out set gave 1 rows of width 7"):
        train_autoencoder(source(), identity(), QUICK, held_out=torch.ones(1, 7))


def test_weights_that_are_not_finite_are_never_returned(tmp_path: Path) -> None:
    settings = replace(QUICK, learning_rate=1e38, checkpoint_every=1)
    with pytest.raises(GenLangSplatError, match=r"not finite|loss is nan.*lower learning rate"):
        train_autoencoder(source(), identity(), settings, checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1 and below inf, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1, got 1.0"),
        ({"mix": -0.1}, "mix must be at least 0 and below 1"),
        ({"average_decay": 1.0}, "average_decay"),
        ({"gradient_clip": float("nan")}, "gradient_clip"),
        ({"eval_every": 0}, "eval_every must be at least 1"),
        ({"device": "abacus"}, "no device 'abacus'"),
        ({"precision": "float16"}, "float16 needs a CUDA GPU"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        train_autoencoder(source(), identity(), replace(QUICK, **change))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["auto", "bfloat16", "float16", "float32"])
def test_every_precision_trains_on_a_gpu(precision: Any, held_out: Tensor) -> None:
    settings = replace(QUICK, steps=100, device="cuda", average_decay=0.9, gradient_clip=1.0, mix=0.1)
    result = train_autoencoder(source(), identity(), replace(settings, precision=precision), held_out=held_out)
    assert next(result.autoencoder.parameters()).device.type == "cpu"
    assert reconstruction_cosine(result.autoencoder, held_out) > 0.85


# Checkpoints

SETTINGS = TrainingSettings(
    steps=40,
    batch_size=16,
    seed=3,
    mix=0.3,
    mix_noise=0.01,
    average_decay=0.9,
    gradient_clip=1.0,
    eval_every=9,
    checkpoint_every=7,
    pca_rows=32,
)
HELD_OUT = unit_rows(64, seed=9)


def train(
    folder: Path | None, calls: int | None = None, architecture: str = "langsplat", **changes: Any
) -> TrainingResult:
    """Trains; after a number of calls of the source the training is interrupted."""
    drawing, settings = Drawing(unit_rows(100, seed=1), calls), replace(SETTINGS, **changes)
    return train_autoencoder(drawing, identity(architecture), settings, held_out=HELD_OUT, checkpoint_dir=folder)


def interrupt(folder: Path, calls: int = 20, architecture: str = "langsplat", **changes: Any) -> Path:
    """Interrupts a training; returns the place of the checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        train(folder, calls, architecture, **changes)
    return folder / "checkpoint.pt"


def assert_same_result(one: TrainingResult, two: TrainingResult) -> None:
    assert one.losses == two.losses
    assert one.held_out_cosines == two.held_out_cosines
    assert one.best_step == two.best_step
    assert_same_weights(one.autoencoder, two.autoencoder)


@pytest.mark.parametrize(
    ("architecture", "schedule"), [("langsplat", "one-cycle"), ("residual", "one-cycle"), ("mlp", "cosine")]
)
@pytest.mark.parametrize("calls", [3, 9, 30])
def test_an_interrupted_training_ends_as_if_nothing_had_happened(
    tmp_path: Path, calls: int, architecture: str, schedule: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(None, architecture=architecture, schedule=schedule)
    interrupt(tmp_path, calls, architecture, schedule=schedule)
    assert_same_result(whole, train(tmp_path, architecture=architecture, schedule=schedule))
    assert ("Resuming from" in caplog.text) == (calls > 7)


def test_a_training_may_be_interrupted_again_and_again_and_is_finished_once(tmp_path: Path) -> None:
    for _ in range(4):
        interrupt(tmp_path, calls=9)
    whole = train(None)
    assert_same_result(train(tmp_path, checkpoint_every=11), whole)
    assert_same_result(train(tmp_path, calls=0), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_training_that_stopped_early_is_not_repeated(tmp_path: Path) -> None:
    early = {"patience": 1, "eval_every": 1, "learning_rate": 0.3}
    stopped = train(tmp_path, **early)
    assert len(stopped.losses) < SETTINGS.steps
    assert_same_result(stopped, train(tmp_path, calls=0, **early))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.pretrain import test_training as t

class Killing(t.Drawing):
    calls = 0
    def __call__(self, count):
        self.calls += 1
        if self.calls > 25:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(count)

torch.set_num_threads(1)
t.Drawing = Killing
t.train(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (tmp_path / "checkpoint.pt").exists()
    assert_same_result(train(tmp_path), train(None))


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "foreign"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    path = interrupt(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: {"empty": 0, "truncated": 1000}.get(damage, len(content))])
    if damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(GenLangSplatError, match=r"checkpoint\.pt is damaged .* Delete it to train from the start"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [("step", None), ("network", {}), ("optimizer", {}), ("average", [1, 2]), ("workers", [])]
)
def test_a_checkpoint_with_other_content_is_refused(tmp_path: Path, name: str, content: Any) -> None:
    path = interrupt(tmp_path)
    stored = torch.load(path, weights_only=True)
    del stored["state"][name]
    if content is not None:
        stored["state"][name] = content
    torch.save(stored, path)
    with pytest.raises(GenLangSplatError, match=r"checkpoint\.pt is damaged .* Delete it to train from the start"):
        train(tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"config": "{}", "state": Drawing(HELD_OUT)}, tmp_path / "checkpoint.pt")
    with pytest.raises(GenLangSplatError, match="damaged or not of this version"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mlp"}, "architecture is 'langsplat' there and 'mlp' here"),
        ({"steps": 41, "seed": 4}, "seed is 3 there and 4 here; steps is 40 there and 41 here"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_with_both_values(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    interrupt(tmp_path)
    with pytest.raises(GenLangSplatError, match=message):
        train(tmp_path, **changes)
    with pytest.raises(GenLangSplatError, match="held_out is"):
        train_autoencoder(source(), identity("langsplat"), SETTINGS, checkpoint_dir=tmp_path)


def test_a_source_that_cannot_go_on_is_refused_before_any_step(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"Turning has no state_dict\(\)"):
        train_autoencoder(Turning(0), identity(), QUICK, checkpoint_dir=tmp_path)


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def full_at_the_third(state: dict[str, Any], file: Any) -> None:
        if state["state"]["step"] == 21:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, file)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full_at_the_third)
        with pytest.raises(GenLangSplatError, match=r"cannot be written .*No space left"):
            train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert_same_result(train(tmp_path), train(None))
