"""Scenes on disk: finished runs, checkpoints, and the files of other programs.

- `gaussians`: the parameters of Gaussians as stored in files.
- `checkpoints`: finds, checks and reads nerfstudio checkpoints.
- `ply`: Gaussians in PLY files.
- `ply_file`: reads and writes PLY files with any elements.
- `frames`: coordinate frames, and transforming Gaussians between them.
- `runs`: finished runs; whatever writes a run or adds a checkpoint to one does it here.
- `run_config`: the config.yml of a run of any method.
- `run_costs`: what a run cost so far, for a resumed run.
- `seed_points`: seed points in PLY files.

Imports `errors`, `utils` and the harmonics of `rasterization`. Used by the method, `scene` and the viewer.
"""
