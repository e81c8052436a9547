"""Pre-training of the generalized autoencoder: `python -m pretrain --help`.

Sources of frames: `sources` (interface), `images`, `scannet`, `sens_file`.
Extraction: `extract`, `frame_worker`, `ray_engine`. Storage: `shards`, `shard_writer`, `stored` (feature stores).
Sources of embeddings: `stream`, `row_subset`, `tensor_source`, `mixtures` (synthetic embeddings of ConSE).
Training: `train` (entry point), `training`, `settings`, `losses`, `rows`, `schedule`, `averaging`, `best_weights`,
`checkpoint`, `distributed`, `training_log`.
Evaluation: `fidelity`, `retrieval`, `evaluate`, `cross`, `sweep`, `tables`.
Commands: `shard_commands`, `artifact_commands`, `conse_commands`.

The package imports `genlangsplat_ns.language`, `features`, `utils`, `errors` and `levels`. `genlangsplat_ns` never
imports it.
"""
