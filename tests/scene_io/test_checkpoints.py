"""Finding, checking and reading checkpoints of several nerfstudio versions."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.checkpoints import (
    allow_nerfstudio_checkpoints,
    check_checkpoint,
    latest_checkpoint,
    read_splat_checkpoint,
)
from tests.scene_io.gaussian_fakes import make_gaussians, same_bits


def test_the_newest_checkpoint_is_found_by_its_step(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    for name in ("step-000000999.ckpt", "step-000002000.ckpt", "notes.txt"):
        (tmp_path / name).touch()
    newest = latest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "step-000002000.ckpt"


def test_complete_checkpoints_pass_and_truncated_ones_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.ckpt"
    torch.save({"step": 1, "values": torch.rand(1000)}, path)
    check_checkpoint(path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(GenLangSplatError, match="truncated"):
            check_checkpoint(path)


def test_a_missing_checkpoint_is_reported(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="no checkpoint"):
        check_checkpoint(tmp_path / "step-000000001.ckpt")


def test_the_numpy_numbers_of_stock_checkpoints_load_safely(tmp_path: Path) -> None:
    """nerfstudio's scheduler stores learning rates as np.float64."""
    allow_nerfstudio_checkpoints()
    torch.save({"lr": np.float64(1e-3)}, tmp_path / "stock.ckpt")
    assert torch.load(tmp_path / "stock.ckpt", weights_only=True)["lr"] == 1e-3


def write_checkpoint(path: Path, state: dict[str, Any]) -> Path:
    torch.save({"step": 7, "pipeline": state, "optimizers": {"means": {"lr": np.float64(1e-3)}}}, path)
    return path


def stock_state(degree: int = 3, prefix: str = "_model.gauss_params.") -> dict[str, Any]:
    """The parameters of a stock checkpoint, with the names it uses."""
    gaussians = {f"{prefix}{name}": value for name, value in make_gaussians(6, degree).tensors().items()}
    return gaussians | {"_model.lpips.net.weight": torch.zeros(3), "_model.device_indicator_param": torch.zeros(0)}


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("prefix", ["_model.gauss_params.", "_model.", "_model.module.gauss_params.", "module._model."])
def test_gaussians_of_every_version_and_degree_are_read(tmp_path: Path, degree: int, prefix: str) -> None:
    """Names differ between nerfstudio versions, and training on several GPUs adds a prefix."""
    allow_nerfstudio_checkpoints()
    path = write_checkpoint(tmp_path / "step-000000007.ckpt", stock_state(degree, prefix))
    read = read_splat_checkpoint(path)
    assert same_bits(read.gaussians, make_gaussians(6, degree)) and read.gaussians.sh_degree == degree
    assert read.pose_adjustment is None
    path.write_bytes(b"")
    assert same_bits(read.gaussians, make_gaussians(6, degree)), "the tensors must not depend on the file"


def test_optimized_cameras_are_read_and_latents_are_not(tmp_path: Path) -> None:
    adjustment = torch.randn(4, 6)
    state = stock_state() | {"_model.camera_optimizer.pose_adjustment": adjustment}
    state["_model.gauss_params.latents"] = torch.zeros(6, 3, 8)
    read = read_splat_checkpoint(write_checkpoint(tmp_path / "a.ckpt", state))
    assert read.pose_adjustment is not None and torch.equal(read.pose_adjustment, adjustment)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_model.gauss_params.means": torch.zeros(0, 3)}, "zero Gaussians"),
        ({"_model.gauss_params.scales": torch.zeros(5, 3)}, r"scales .*\(5, 3\).*\(6, 3\)"),
        ({"_model.gauss_params.opacities": torch.zeros(6)}, "opacities"),
        ({"_model.gauss_params.features_rest": torch.zeros(6, 24, 3)}, "degree 0 to 3"),
    ],
)
def test_gaussians_of_another_shape_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GenLangSplatError, match=message):
        read_splat_checkpoint(write_checkpoint(tmp_path / "a.ckpt", stock_state() | changes))


def test_checkpoints_of_other_things_are_refused(tmp_path: Path) -> None:
    fields = write_checkpoint(tmp_path / "nerf.ckpt", {"_model.field.weight": torch.zeros(2)})
    with pytest.raises(GenLangSplatError, match="of nerfacto and lacks the means"):
        read_splat_checkpoint(fields, "nerfacto")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.ckpt")
    with pytest.raises(GenLangSplatError, match="cannot be read as a checkpoint"):
        read_splat_checkpoint(tmp_path / "other.ckpt")
    torch.save({"pipeline": Path("x")}, tmp_path / "code.ckpt")
    with pytest.raises(GenLangSplatError, match="cannot be read as a checkpoint"):
        read_splat_checkpoint(tmp_path / "code.ckpt")


def test_a_checkpoint_that_the_disk_does_not_give_is_not_called_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner would delete it."""
    path = tmp_path / "step-000000001.ckpt"
    torch.save({"step": 1, "pipeline": {}}, path)
    check_checkpoint(path)
    monkeypatch.setattr(Path, "open", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    with pytest.raises(GenLangSplatError, match=r"cannot be read \(Input/output error\)") as told:
        check_checkpoint(path)
    assert "truncated" not in str(told.value) and "elete" not in str(told.value)
