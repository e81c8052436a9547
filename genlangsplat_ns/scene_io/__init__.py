"""Scenes on disk: finished runs, checkpoints, and the files of other programs.

- `gaussians`: the parameters of Gaussians as stored in files.
- `checkpoints`: finds, checks and reads nerfstudio checkpoints.
- `ply`: Gaussians in PLY files.
- `frames`: coordinate frames, and transforming Gaussians between them.
- `runs`: finished runs; whatever writes a run or adds a checkpoint to one does it here.
- `run_config`: the config.yml of a run of any method.
- `seed_points`: seed points in PLY files.

Imports `errors`, `utils` and the harmonics of `rasterization`. Used by the method, `scene` and the viewer.
"""

from __future__ import annotations

from genlangsplat_ns.utils.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "SceneFrame": "genlangsplat_ns.scene_io.frames",
        "move_gaussians": "genlangsplat_ns.scene_io.frames",
        "read_ply": "genlangsplat_ns.scene_io.ply",
        "read_run_config": "genlangsplat_ns.scene_io.run_config",
        "read_splat_checkpoint": "genlangsplat_ns.scene_io.checkpoints",
        "write_ply": "genlangsplat_ns.scene_io.ply",
    },
)
