"""Script that test_distributed.py starts with torchrun. Not a test itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import ARCHITECTURES
from genlangsplat_ns.language.autoencoder import save_autoencoder
from pretrain.distributed import workers_from_environment
from pretrain.tensor_source import TensorSource
from pretrain.train import TrainingSettings, train_autoencoder
from tests.pretrain.training_fakes import Interrupting, assert_same_weights, identity, unit_rows

# At a higher learning rate the rounding of batch normalization would change the curve after ten steps.
SETTINGS = TrainingSettings(
    steps=30,
    batch_size=16,
    learning_rate=2e-3,
    seed=3,
    eval_every=10,
    checkpoint_every=7,
    average_decay=0.5,
    gradient_clip=1.0,
    pca_rows=64,
)
ROWS, HELD_OUT = unit_rows(200, seed=1), unit_rows(64, seed=9)


def main(folder: Path) -> None:
    """Trains all architectures, an interrupted one, and one that must be refused; writes the results by rank."""
    torch.set_num_threads(1)
    workers = workers_from_environment()
    share = {"rank": workers.rank, "world_size": workers.world_size}
    found: dict[str, object] = {}
    for architecture in ARCHITECTURES:
        result = train_autoencoder(
            TensorSource(ROWS, **share),
            identity(architecture),
            SETTINGS,
            held_out=HELD_OUT,
            log_dir=folder / f"log-{architecture}",
        )
        found[architecture] = {"losses": result.losses, "cosines": result.held_out_cosines}
        save_autoencoder(folder / f"{architecture}-{workers.rank}.safetensors", result.autoencoder)

    lower = replace(SETTINGS, precision="bfloat16")
    found["bfloat16"] = train_autoencoder(TensorSource(ROWS, **share), identity("langsplat"), lower).losses

    mixing = replace(SETTINGS, mix=0.3)
    whole = train_autoencoder(TensorSource(ROWS, **share), identity(), mixing)
    try:
        train_autoencoder(Interrupting(ROWS, 20, **share), identity(), mixing, checkpoint_dir=folder / "state")
    except KeyboardInterrupt:
        found["interrupted"] = True
    resumed = train_autoencoder(TensorSource(ROWS, **share), identity(), mixing, checkpoint_dir=folder / "state")
    assert_same_weights(whole.autoencoder, resumed.autoencoder)
    found["resumed"] = whole.losses == resumed.losses

    for name, source, settings, state in (
        ("same rows", TensorSource(ROWS), SETTINGS, None),
        ("other settings", TensorSource(ROWS, **share), replace(mixing, seed=5), folder / "state"),
    ):
        try:
            train_autoencoder(source, identity(), settings, checkpoint_dir=state)
        except GenLangSplatError as error:
            found[name] = str(error)
    (folder / f"found-{workers.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
