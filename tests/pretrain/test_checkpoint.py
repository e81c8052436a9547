"""Checkpoints: an interrupted training has the same result, and other files are refused."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from pretrain import checkpoint
from pretrain.mixtures import MixtureSampler
from pretrain.tensor_source import TensorSource
from pretrain.train import TrainingResult, TrainingSettings, train_autoencoder
from tests.pretrain.test_train import curve
from tests.pretrain.training_fakes import Interrupting, assert_same_weights, identity, one_thread, unit_rows  # noqa: F401

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


def rows() -> Tensor:
    return unit_rows(100, seed=1)


def train(
    folder: Path | None, source: object = None, architecture: str = "langsplat", **changes: object
) -> TrainingResult:
    return train_autoencoder(
        source or TensorSource(rows()),  # type: ignore[arg-type]
        identity(architecture),
        replace(SETTINGS, **changes),  # type: ignore[arg-type]
        held_out=HELD_OUT,
        checkpoint_dir=folder,
    )


def interrupt(folder: Path, calls: int = 20, architecture: str = "langsplat") -> list[Path]:
    """Interrupts a training after a number of calls of the source; returns the checkpoints."""
    with pytest.raises(KeyboardInterrupt):
        train(folder, Interrupting(rows(), calls), architecture)
    return sorted(folder.iterdir())


def assert_same_result(one: TrainingResult, two: TrainingResult) -> None:
    assert one.losses == two.losses
    assert one.held_out_cosines == two.held_out_cosines
    assert one.best_step == two.best_step
    assert_same_weights(one.autoencoder, two.autoencoder)


@pytest.mark.parametrize("architecture", ["langsplat", "residual"])
@pytest.mark.parametrize("calls", [3, 8, 29, 39])
def test_an_interrupted_training_ends_as_if_nothing_had_happened(
    tmp_path: Path, calls: int, architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(None, architecture=architecture)
    interrupt(tmp_path, calls, architecture)
    resumed = train(tmp_path, architecture=architecture)
    assert_same_result(whole, resumed)
    assert ("Resuming from" in caplog.text) == (calls > 7)


def test_a_training_may_be_interrupted_again_and_again(tmp_path: Path) -> None:
    for _ in range(4):
        interrupt(tmp_path, calls=9)
    assert_same_result(train(tmp_path), train(None))


def test_synthetic_mixtures_go_on_too(tmp_path: Path) -> None:
    def sampler() -> MixtureSampler:
        generator = torch.Generator().manual_seed(99)
        classes, weight = (torch.randn(40, width, generator=generator) for width in (24, 16))
        return MixtureSampler(classes, weight, torch.zeros(40), seed=2)

    whole = train(None, sampler())
    stopped = sampler()
    calls = iter(range(20))
    draw = stopped.logits

    def drawing(count: int) -> Tensor:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return draw(count)

    stopped.logits = drawing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stopped)
    assert_same_result(whole, train(tmp_path, sampler()))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.pretrain import test_checkpoint as t

class Killing(t.TensorSource):
    calls = 0
    def __call__(self, count):
        self.calls += 1
        if self.calls > 25:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(count)

torch.set_num_threads(1)
t.train(Path(sys.argv[1]), Killing(t.rows()))
"""


def test_a_killed_process_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert_same_result(train(tmp_path), train(None))


class Silent:
    """A source that must not be called."""

    def __call__(self, count: int) -> Tensor:
        raise AssertionError("asked for rows")

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    assert_same_result(train(tmp_path), train(tmp_path, Silent()))


def test_a_training_that_stopped_early_is_not_repeated(tmp_path: Path) -> None:
    stopped = train(tmp_path, patience=1, eval_every=1, learning_rate=0.3)
    assert len(stopped.losses) < SETTINGS.steps
    assert_same_result(stopped, train(tmp_path, Silent(), patience=1, eval_every=1, learning_rate=0.3))


def test_only_the_last_two_checkpoints_stay(tmp_path: Path) -> None:
    assert [path.name for path in interrupt(tmp_path, 30)] == [
        "step-000000021.safetensors",
        "step-000000028.safetensors",
    ]


def test_curves_have_one_value_a_step_after_an_interruption(tmp_path: Path) -> None:
    def logged(source: TensorSource) -> TrainingResult:
        # The losses of 32 steps are written before the interruption, but the checkpoint is of step 20.
        return train_autoencoder(
            source,
            identity(),
            replace(SETTINGS, checkpoint_every=20),
            checkpoint_dir=tmp_path / "state",
            log_dir=tmp_path / "log",
        )

    with pytest.raises(KeyboardInterrupt):
        logged(Interrupting(rows(), 38))
    result = logged(TensorSource(rows()))
    losses = curve(tmp_path / "log", "loss")
    assert sorted(losses) == list(range(1, 41))
    assert [losses[step] for step in range(1, 41)] == pytest.approx(result.losses)


def test_a_truncated_checkpoint_is_left_for_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, newest = interrupt(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = train(tmp_path)
    assert "step-000000014.safetensors cannot be read" in caplog.text
    assert "Using step-000000007.safetensors instead" in caplog.text
    assert_same_result(resumed, train(None))


def test_a_changed_value_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, newest = interrupt(tmp_path)
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    resumed = train(tmp_path)
    assert "do not have the stored checksum" in caplog.text
    assert_same_result(resumed, train(None))


@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_nothing_but_damaged_checkpoints_is_an_error_that_names_them(tmp_path: Path, kept: int) -> None:
    for path in interrupt(tmp_path):
        path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        GenLangSplatError, match=r"step-000000014.*step-000000007.* Delete them to train from the start"
    ):
        train(tmp_path)


def test_another_safetensors_file_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "step-000000003.safetensors")
    with pytest.raises(GenLangSplatError, match="not a checkpoint of this version"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mlp"}, "architecture is 'langsplat' there and 'mlp' here"),
        ({"learning_rate": 0.5}, "learning_rate is 0.01 there and 0.5 here"),
        ({"steps": 41, "seed": 4}, "seed is 3 there and 4 here; steps is 40 there and 41 here"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_with_both_values(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    interrupt(tmp_path)
    with pytest.raises(GenLangSplatError, match=message):
        train(tmp_path, **changes)  # type: ignore[arg-type]


def test_a_checkpoint_of_another_encoder_or_held_out_set_is_refused(tmp_path: Path) -> None:
    interrupt(tmp_path)
    source = TensorSource(rows())
    other = replace(identity("langsplat"), encoder="other-encoder/2")
    with pytest.raises(GenLangSplatError, match="encoder is 'test-encoder/1' there and 'other-encoder/2' here"):
        train_autoencoder(source, other, SETTINGS, held_out=HELD_OUT, checkpoint_dir=tmp_path)
    with pytest.raises(GenLangSplatError, match=r"held_out is '[0-9a-f]{64}' there and '' here"):
        train_autoencoder(source, identity("langsplat"), SETTINGS, checkpoint_dir=tmp_path)


def test_how_often_checkpoints_are_written_may_change(tmp_path: Path) -> None:
    interrupt(tmp_path)
    assert_same_result(train(tmp_path, checkpoint_every=11), train(None))


def test_a_source_that_cannot_go_on_is_refused_before_any_step(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"function has no state_dict\(\)"):
        train(tmp_path, lambda count: unit_rows(count, seed=0))


def test_a_full_disk_leaves_earlier_checkpoints_and_no_half_written_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = checkpoint.save_file

    def full_at_the_third(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        if len(list(tmp_path.glob("step-*"))) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path, metadata=metadata)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", full_at_the_third)
        with pytest.raises(GenLangSplatError, match=r"step-000000021.* cannot be written .*No space left"):
            train(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000007.safetensors",
        "step-000000014.safetensors",
    ]
    assert_same_result(train(tmp_path), train(None))


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(GenLangSplatError, match="cannot be written"):
        train(tmp_path / "taken" / "state")


def test_any_state_of_tensors_and_json_values_comes_back(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    tensors = [shared[:3], shared[1:], torch.tensor(3), torch.zeros(0, 4), torch.tensor([True, False])]
    tensors += [torch.tensor([1.5, -2.0]).bfloat16(), torch.tensor([2**40])]
    state = {
        "numbers": {0: 1.5, 7: None, "x": True},
        "list": ["text", (1, 2), []],
        "tensors": tensors[:-2],
        "half": tensors[-2],
        "counts": tensors[-1],
    }
    checkpoint.write_checkpoint(tmp_path, 12, {"a": 1}, state)
    read = checkpoint.read_newest_checkpoint(tmp_path)
    assert read is not None and read.config == {"a": 1}
    assert read.state["numbers"] == state["numbers"]
    assert read.state["list"] == ["text", [1, 2], []]
    found = [*read.state["tensors"], read.state["half"], read.state["counts"]]
    for one, other in zip(found, tensors, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_state_that_would_need_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="the state has a set"):
        checkpoint.write_checkpoint(tmp_path, 1, {}, {"seen": {1, 2}})
    assert list(tmp_path.iterdir()) == []
