"""Checkpoints: found, checked, and readable whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.checkpoints import allow_nerfstudio_checkpoints, check_checkpoint, latest_checkpoint


def test_the_newest_checkpoint_is_found_by_its_step(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    for name in ("step-000000999.ckpt", "step-000002000.ckpt", "notes.txt"):
        (tmp_path / name).touch()
    newest = latest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "step-000002000.ckpt"


def test_a_whole_checkpoint_passes_and_every_cut_of_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.ckpt"
    torch.save({"step": 1, "values": torch.rand(1000)}, path)
    check_checkpoint(path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(GenLangSplatError, match="truncated"):
            check_checkpoint(path)


def test_a_missing_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="no checkpoint"):
        check_checkpoint(tmp_path / "step-000000001.ckpt")


def test_the_numpy_numbers_of_stock_checkpoints_load_safely(tmp_path: Path) -> None:
    """nerfstudio's own scheduler leaves np.float64 learning rates behind."""
    allow_nerfstudio_checkpoints()
    torch.save({"lr": np.float64(1e-3)}, tmp_path / "stock.ckpt")
    assert torch.load(tmp_path / "stock.ckpt", weights_only=True)["lr"] == 1e-3
