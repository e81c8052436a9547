"""The views of a scene: photographs, their cameras, and undistortion.

- `scene_folder`: checks that a folder holds a scene. `model_folders`: where models of COLMAP lie.
- `transforms_file`, `colmap_model`: read poses, lenses and lists of splits into a `posed_scene`.
- `picture_files`, `masks`: find and read listed photographs and masks, however they are named.
- `downscaling`: finds downscaled copies of photographs.
- `lenses`: camera models. `splits`: which views train.
- `dataset`: reads photographs in many formats, one at a time, and which of their pixels count.
- `undistortion`: maps photographs and masks of any lens to perspective views.
- `cameras`: converts nerfstudio cameras for the rasterizer, and maps points between raw and undistorted views.
- `absent`: stands in for the views of a run that is opened without its data.

Imports nerfstudio, `errors` and `utils`. Used by the data manager, the model and `scene`.
"""
