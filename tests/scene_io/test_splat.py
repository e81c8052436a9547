"""Files of 32 bytes a Gaussian."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.splat import read_splat


def row(scale: float = 0.5, opacity: int = 51, rotation: tuple[int, ...] = (255, 128, 128, 0)) -> bytes:
    return struct.pack("<6f8B", 1.0, -2.0, 3.0, scale, 0.25, 2.0, 255, 0, 51, opacity, *rotation)


def test_bytes_mean_position_size_color_and_rotation(tmp_path: Path) -> None:
    (tmp_path / "a.splat").write_bytes(row())
    gaussians = read_splat(tmp_path / "a.splat")
    assert gaussians.means.tolist() == [[1.0, -2.0, 3.0]] and gaussians.sh_degree == 0
    assert gaussians.scales[0].tolist() == pytest.approx(torch.tensor([0.5, 0.25, 2.0]).log().tolist())
    colors = gaussians.features_dc[0] * 0.28209479177387814 + 0.5
    assert colors.tolist() == pytest.approx([1.0, 0.0, 0.2], abs=1e-6)
    assert gaussians.opacities.sigmoid().item() == pytest.approx(0.2)
    assert gaussians.quats[0].tolist() == pytest.approx([127 / 128, 0.0, 0.0, -1.0])


def test_opacities_of_zero_and_one_have_finite_logits(tmp_path: Path) -> None:
    (tmp_path / "a.splat").write_bytes(row(opacity=0) + row(opacity=255) + row(scale=0.0))
    gaussians = read_splat(tmp_path / "a.splat")
    assert gaussians.opacities.isfinite().all() and gaussians.scales.isfinite().all()
    assert gaussians.opacities.sigmoid().flatten().tolist() == pytest.approx([0.0, 1.0, 0.2], abs=1e-5)


def test_unusable_gaussians_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row(), row(scale=-1.0), row(rotation=(128, 128, 128, 128)), row(), row()]
    (tmp_path / "a.splat").write_bytes(b"".join(rows))
    assert len(read_splat(tmp_path / "a.splat")) == 3
    assert "2 of 5 Gaussians are dropped" in caplog.text
    (tmp_path / "b.splat").write_bytes(row(rotation=(128, 128, 128, 128)))
    with pytest.raises(GenLangSplatError, match="None of the 1 Gaussians"):
        read_splat(tmp_path / "b.splat")
