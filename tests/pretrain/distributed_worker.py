"""Script that test_distributed.py starts with torchrun. Not a test itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import save_autoencoder
from pretrain.distributed import join_workers
from pretrain.settings import TrainingSettings
from pretrain.training import train_autoencoder
from tests.pretrain.training_fakes import Drawing, assert_same_weights, identity, unit_rows

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
ARCHITECTURES = ("mlp", "residual")


def main(folder: Path) -> None:
    """Trains architectures, an interrupted one, and one that must be refused; writes the results by rank."""
    torch.set_num_threads(1)
    workers = join_workers("cpu")
    share = {"rank": workers.rank, "world_size": workers.world_size}
    found: dict[str, object] = {}
    for name in ARCHITECTURES:
        result = train_autoencoder(Drawing(ROWS, **share), identity(name), SETTINGS, held_out=HELD_OUT)
        found[name] = {"losses": result.losses, "cosines": result.held_out_cosines}
        save_autoencoder(folder / f"{name}-{workers.rank}.safetensors", result.autoencoder)

    mixing = replace(SETTINGS, mix=0.3)
    whole = train_autoencoder(Drawing(ROWS, **share), identity(), mixing)
    try:
        train_autoencoder(Drawing(ROWS, 20, **share), identity(), mixing, checkpoint_dir=folder / "state")
    except KeyboardInterrupt:
        found["interrupted"] = True
    resumed = train_autoencoder(Drawing(ROWS, **share), identity(), mixing, checkpoint_dir=folder / "state")
    assert_same_weights(whole.autoencoder, resumed.autoencoder)
    found["resumed"] = whole.losses == resumed.losses
    try:
        other = replace(mixing, seed=5)
        train_autoencoder(Drawing(ROWS, **share), identity(), other, checkpoint_dir=folder / "state")
    except GenLangSplatError as error:
        found["refused"] = str(error)
    (folder / f"found-{workers.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
