"""What has to be checked on a card: `make gpu-check`, and `make gpu-bundle` for a card without a network.

- `check`: runs the parts, each in its own process, and writes one JSON and one table; needs nothing but Python.
- `part`: runs one part.
- `software_parts`: what is installed, the kernels, the tests.
- `scene_parts`: training the gallery and the fox scene, and the agreement of CPU and CUDA.
- `time_parts`: steps, lifting, optimization and queries.
- `training`: the method with a short schedule on one device.
- `sentences`: stored sentence embeddings, because their model is too large for the bundle.
- `bundle`: gathers what a card without a network needs.
"""
