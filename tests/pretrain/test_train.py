"""Training: convergence, best weights, early stopping and errors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import ARCHITECTURES
from genlangsplat_ns.language.autoencoder import Autoencoder
from genlangsplat_ns.language.named_autoencoders import load_autoencoder
from pretrain import training
from pretrain.fidelity import reconstruction_cosine
from pretrain.tensor_source import TensorSource
from pretrain.train import DivergedError, TrainingSettings, train_autoencoder
from tests.pretrain.training_fakes import assert_same_weights, identity, one_thread, unit_rows  # noqa: F401

QUICK = TrainingSettings(steps=60, batch_size=64, seed=3)
FROZEN = replace(QUICK, steps=1, learning_rate=0.0)
"""Settings that train nothing, so that the result has the initial weights."""


def source(seed: int = 0) -> TensorSource:
    return TensorSource(unit_rows(512, seed=1, rank=5), seed=seed)


class Turning:
    """Returns rows like the held-out ones for some calls, and different ones afterwards."""

    def __init__(self, turns_after: int) -> None:
        self._left, self._good, self._other = turns_after, source(), TensorSource(unit_rows(512, seed=2))

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
        {"average_decay": 0.9},
        {"mix": 0.5, "mix_noise": 0.01},
        {"gradient_clip": 0.1},
        {"precision": "bfloat16"},
    ],
)
def test_every_choice_trains_another_network_as_faithfully(change: dict[str, object], held_out: Tensor) -> None:
    plain, chosen = (
        train_autoencoder(source(), identity(), replace(QUICK, steps=100, **settings))  # type: ignore[arg-type]
        for settings in ({}, change)
    )
    plain_cosine, chosen_cosine = (reconstruction_cosine(result.autoencoder, held_out) for result in (plain, chosen))
    assert chosen_cosine != plain_cosine
    assert chosen_cosine > 0.85
    assert abs(chosen_cosine - plain_cosine) < 0.05


def test_a_clip_above_every_gradient_changes_nothing() -> None:
    plain, clipped = (
        train_autoencoder(source(), identity(), replace(QUICK, gradient_clip=clip)) for clip in (0.0, 1e9)
    )
    assert_same_weights(plain.autoencoder, clipped.autoencoder)


def test_the_first_loss_is_that_of_the_first_rows_under_the_starting_weights() -> None:
    result = train_autoencoder(source(), identity(), FROZEN)
    rows = source()(FROZEN.batch_size)
    cosine = reconstruction_cosine(result.autoencoder, rows)
    assert result.losses == [pytest.approx(3 * (1 - cosine), abs=1e-5)]


@pytest.mark.parametrize("architecture", ["linear", "residual"])
def test_linear_maps_start_from_the_principal_components_of_the_source(architecture: str) -> None:
    rows = unit_rows(300, seed=1)
    result = train_autoencoder(TensorSource(rows), identity(architecture), replace(FROZEN, pca_rows=300))
    # Principal directions of the uncentered second moments.
    basis = torch.linalg.eigh(rows.T @ rows)[1][:, -4:]
    expected = F.cosine_similarity(rows @ basis @ basis.T, rows, dim=-1).mean().item()
    assert reconstruction_cosine(result.autoencoder, rows) == pytest.approx(expected, abs=1e-5)


def test_training_starts_from_given_weights(held_out: Tensor) -> None:
    trained = train_autoencoder(source(), identity(), QUICK).autoencoder
    same = train_autoencoder(source(), identity(), FROZEN, start=trained).autoencoder
    assert_same_weights(trained, same)
    with pytest.raises(GenLangSplatError, match=r"architecture='mlp'.*architecture='linear'"):
        train_autoencoder(source(), identity("linear"), FROZEN, start=trained)


def test_the_best_measured_weights_are_returned_and_not_the_last(held_out: Tensor) -> None:
    settings = replace(QUICK, steps=120, eval_every=10)
    result = train_autoencoder(Turning(60), identity(), settings, held_out=held_out)
    assert [step for step, _ in result.held_out_cosines] == list(range(10, 121, 10))
    best = max(result.held_out_cosines, key=lambda measured: measured[1])
    assert result.best_step == best[0] <= 70
    assert best[1] > result.held_out_cosines[-1][1] + 0.02
    assert reconstruction_cosine(result.autoencoder, held_out) == pytest.approx(best[1], abs=1e-6)


def test_training_stops_when_measurements_stay_worse(held_out: Tensor) -> None:
    settings = replace(QUICK, steps=500, eval_every=10, patience=3, schedule="cosine")
    result = train_autoencoder(Turning(60), identity(), settings, held_out=held_out)
    assert len(result.losses) == result.best_step + 30 < 500


def test_the_last_step_is_measured_also_between_intervals(held_out: Tensor) -> None:
    result = train_autoencoder(source(), identity(), replace(QUICK, steps=25, eval_every=10), held_out=held_out)
    assert [step for step, _ in result.held_out_cosines] == [10, 20, 25]


@pytest.mark.parametrize("architecture", ["mlp", "langsplat"])
def test_the_running_average_is_what_is_measured_and_returned(architecture: str, held_out: Tensor) -> None:
    settings = replace(QUICK, steps=30, average_decay=0.99)
    measured = train_autoencoder(source(), identity(architecture), settings, held_out=held_out)
    unmeasured = train_autoencoder(source(), identity(architecture), settings)
    last = train_autoencoder(source(), identity(architecture), replace(settings, average_decay=0.0))
    assert_same_weights(measured.autoencoder, unmeasured.autoencoder)
    cosine = reconstruction_cosine(measured.autoencoder, held_out)
    assert cosine == pytest.approx(measured.held_out_cosines[-1][1], abs=1e-6)
    assert abs(cosine - reconstruction_cosine(last.autoencoder, held_out)) > 1e-4
    assert measured.losses == last.losses


def test_measuring_does_not_change_training(held_out: Tensor) -> None:
    settings = replace(QUICK, eval_every=7)
    measured = train_autoencoder(source(), identity("langsplat"), settings, held_out=held_out)
    unmeasured = train_autoencoder(source(), identity("langsplat"), settings)
    assert measured.losses == unmeasured.losses


def test_training_leaves_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_autoencoder(source(), identity(), replace(FROZEN, mix=0.3))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_the_progress_bar_shows_the_held_out_cosine(held_out: Tensor, shown_progress: io.StringIO) -> None:
    result = train_autoencoder(source(), identity(), QUICK, held_out=held_out)
    assert f"held-out cosine {result.held_out_cosines[-1][1]:.4f}" in shown_progress.getvalue()
    assert "60/60" in shown_progress.getvalue()


def curve(folder: Path, name: str) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def test_tensorboard_gets_every_loss_and_the_other_curves(tmp_path: Path, held_out: Tensor) -> None:
    settings = replace(QUICK, eval_every=25)
    result = train_autoencoder(source(), identity(), settings, held_out=held_out, log_dir=tmp_path / "log")
    losses = curve(tmp_path / "log", "loss")
    assert list(losses) == list(range(1, 61))
    assert list(losses.values()) == pytest.approx(result.losses)
    cosines = curve(tmp_path / "log", "held-out cosine")
    assert list(cosines.items()) == [(step, pytest.approx(cosine)) for step, cosine in result.held_out_cosines]
    rates = curve(tmp_path / "log", "learning rate")
    assert max(rates.values()) <= settings.learning_rate and rates[60] < 1e-5
    assert all(rate > 0 for rate in curve(tmp_path / "log", "rows per second").values())


class Spoiled:
    """Returns good rows, and from a given call on rows changed by `spoil`."""

    def __init__(self, after: int, value: float) -> None:
        self._left, self._value, self._good = after, value, source()

    def __call__(self, count: int) -> Tensor:
        rows = self._good(count)
        self._left -= 1
        if self._left < 0:
            rows[count // 2] = self._value
        return rows


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "not finite"), (0.0, "zero"), (5.0, "of length")])
def test_bad_rows_stop_training_before_their_step(value: float, kind: str) -> None:
    with pytest.raises(GenLangSplatError, match=rf"before step 6, gave 1 bad rows of 64; .* row 32, .*{kind}"):
        train_autoencoder(Spoiled(5, value), identity(), QUICK)


def test_bad_held_out_embeddings_stop_training_at_once(held_out: Tensor) -> None:
    held_out[7, 3] = float("nan")
    with pytest.raises(GenLangSplatError, match="held-out set gave 1 bad rows of 256; the first is row 7"):
        train_autoencoder(source(), identity(), QUICK, held_out=held_out)


def test_sources_of_another_width_or_count_are_refused() -> None:
    with pytest.raises(GenLangSplatError, match="width 24, but the autoencoder is for embeddings of width 30"):
        train_autoencoder(source(), replace(identity(), embedding_dim=30), QUICK)
    with pytest.raises(GenLangSplatError, match="gave 63 rows, expected 64"):
        train_autoencoder(lambda count: unit_rows(count - 1, seed=0), identity(), QUICK)


@pytest.fixture
def loss_breaks_at_step_23(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    calls = iter(range(1, 1000))
    whole = training.reconstruction_loss

    def breaking(*arguments: object) -> Tensor:
        return whole(*arguments) * (float("nan") if next(calls) >= 23 else 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "reconstruction_loss", breaking)
    yield


@pytest.mark.usefixtures("loss_breaks_at_step_23")
def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_best_weights(tmp_path: Path, held_out: Tensor) -> None:
    settings = replace(QUICK, eval_every=10)
    with pytest.raises(DivergedError, match=r"loss is nan at step 23\. .*of step 20 .*best\.safetensors") as caught:
        train_autoencoder(source(), identity(), settings, held_out=held_out, checkpoint_dir=tmp_path)
    best = caught.value.best
    assert best is not None
    assert all(parameter.isfinite().all() for parameter in best.parameters())
    written = load_autoencoder(tmp_path / "best.safetensors")
    torch.testing.assert_close(written(held_out), best(held_out), atol=5e-3, rtol=0)


@pytest.mark.usefixtures("loss_breaks_at_step_23")
def test_no_checkpoint_is_written_after_the_loss_broke(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="step 23, and there is no earlier measurement"):
        train_autoencoder(source(), identity(), replace(QUICK, checkpoint_every=24), checkpoint_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_after_the_last_step_are_never_returned() -> None:
    settings = replace(QUICK, steps=1, learning_rate=float("inf"))
    with pytest.raises(DivergedError, match="weights are not finite after step 1"):
        train_autoencoder(source(), identity(), settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1, got 1.0"),
        ({"mix": -0.1}, "mix must be at least 0 and below 1"),
        ({"average_decay": 1.0}, "average_decay"),
        ({"mix_noise": -1.0}, "mix_noise"),
        ({"gradient_clip": float("nan")}, "gradient_clip"),
        ({"patience": -1}, "patience"),
        ({"pca_rows": -1}, "pca_rows"),
        ({"eval_every": 0}, "eval_every=0"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"device": "abacus"}, "no device 'abacus'"),
        ({"precision": "float16"}, "float16 needs a CUDA GPU"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        train_autoencoder(source(), identity(), replace(QUICK, **change))  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GenLangSplatError, match=r"torch finds none\. Choose the device cpu"):
        train_autoencoder(source(), identity(), replace(QUICK, device="cuda"))


def test_missing_tensorboard_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(GenLangSplatError, match="pip install tensorboard"):
        train_autoencoder(source(), identity(), QUICK, log_dir=tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["auto", "bfloat16", "float16", "float32"])
def test_every_precision_trains_on_a_gpu(precision: str, held_out: Tensor) -> None:
    settings = replace(QUICK, steps=100, device="cuda", average_decay=0.9, gradient_clip=1.0, mix=0.1)
    result = train_autoencoder(source(), identity(), replace(settings, precision=precision), held_out=held_out)  # type: ignore[arg-type]
    assert next(result.autoencoder.parameters()).device.type == "cpu"
    assert F.cosine_similarity(result.autoencoder(held_out), held_out, dim=-1).mean() > 0.85


def test_an_autoencoder_is_built_as_before_for_the_same_seed() -> None:
    torch.manual_seed(FROZEN.seed)
    assert_same_weights(train_autoencoder(source(), identity(), FROZEN).autoencoder, Autoencoder(identity()))
