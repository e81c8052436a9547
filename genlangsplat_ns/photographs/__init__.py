"""Photographs or a video without cameras -> cameras, seed points and transforms.json.

Input: `settings`, `sources` (photographs of a folder), `video` (sharp frames of a video), `exif`, `sharpness`.
Preparation: `prepare` copies upright photographs and masks of at most one size into the scene.
Cameras: `lens_groups` (which photographs share a lens), `pairs` and `similar` (which are matched), `colmap` (the only
module that calls pycolmap), `reconstruct` (all stages, which continue where they were interrupted).
Output: `scene_file` (transforms.json and seed points), `outcome` (which photographs have a camera, and why others have
none).
Training: `training` (the command that trains, and the run that it leaves).

The package imports `errors`, `utils` and, for masks, `views`. The command `from-photos` uses it.
"""
