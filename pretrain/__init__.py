"""Pre-training of the generalized autoencoder: `python -m pretrain --help`.

Sources of frames: `sources` (interface, and folders of images), `scannet`, `sens_file`.
Extraction: `extract`, `frame_worker`, `ray_engine`; it writes `scene_files`.
Sources of embeddings: `stream` (of files), `mixtures` (synthetic embeddings of ConSE).
Training: `training` (entry point), `settings`, `losses`, `checkpoint`, `distributed`.
Evaluation: `fidelity`, `report`.
Commands: `embedding_commands`, `artifact_commands`, `conse_commands`.

The package imports `genlangsplat_ns.language`, `features`, `utils`, `errors` and `levels`. `genlangsplat_ns` never
imports it.
"""
