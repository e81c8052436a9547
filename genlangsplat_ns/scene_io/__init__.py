"""Scenes on disk: finished runs, checkpoints, and the files of other programs.

- `gaussians`: the parameters of Gaussians as stored in files.
- `checkpoints`: finds, checks and reads nerfstudio checkpoints.
- `ply_file`: reads and writes PLY files with any elements.
- `splat_files`: Gaussians in files of any format, which is recognized by the content.
- `ply`, `compressed_ply`, `spz`, `sog`, `splat`, `ksplat`: one format each; `packing`, `codebooks` and `spatial_order`
  are what they share.
- `frames`: coordinate frames, and transforming Gaussians between them.
- `runs`: finished runs; whatever writes a run or adds a checkpoint to one does it here.
- `run_config`: the config.yml of a run of any method.
- `installed_methods`: imports nerfstudio's list of methods faster.
- `run_costs`: what a run cost so far, for a resumed run.
- `seed_points`: seed points in PLY files.

Imports `errors`, `utils` and the harmonics of `rasterization`. Used by the method, `scene` and the viewer.
"""
