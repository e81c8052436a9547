"""A parser for nerfstudio's data format that reads seed points without open3d."""

from __future__ import annotations

from pathlib import Path

import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio
from torch import Tensor

from genlangsplat_ns.scene_io.seed_points import read_seed_points


class SeedPointNerfstudio(Nerfstudio):
    """nerfstudio's parser without open3d, which needs system libraries that many machines lack."""

    def _load_3D_points(
        self, ply_file_path: Path, transform_matrix: Tensor, scale_factor: float
    ) -> dict[str, Tensor] | None:
        positions, colors = read_seed_points(ply_file_path)
        if len(positions) == 0:
            return None
        world = torch.from_numpy(positions) @ transform_matrix[:3, :3].T + transform_matrix[:3, 3]
        return {"points3D_xyz": world * scale_factor, "points3D_rgb": torch.from_numpy(colors)}
