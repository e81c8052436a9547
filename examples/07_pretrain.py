"""Train an autoencoder on a folder of photographs.

    python examples/07_pretrain.py --run gallery-run

The photographs are a few views of the gallery, the encoder is the embedded one, and the training is short, so the
result is of no use but to see the steps. `python -m pretrain extract` and `train` do the same on the command line.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import tyro

from gallery_run import DEFAULT_FOLDER, gallery_scene
from genlangsplat_ns import load_autoencoder
from genlangsplat_ns.features.settings import FeatureSettings
from pretrain.embedding_commands import Train
from pretrain.extract import extract_embeddings
from pretrain.frame_worker import FrameModels
from pretrain.scene_files import read_folders, read_rows
from pretrain.settings import TrainingSettings
from pretrain.sources import ImageFolderSource


def main(run: Path = DEFAULT_FOLDER) -> None:
    """Extracts the embeddings of four photographs, and trains on them.

    Args:
        run: Folder of the example scene and its run.
    """
    # Each top folder counts as a scene. Whole scenes are held out, because neighboring photographs are alike.
    photographs = run / "photographs"
    for number, picture in enumerate(sorted((gallery_scene(run) / "images").glob("*.png"))[::4]):
        target = photographs / f"room-{number % 2}" / picture.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)

    models = FrameModels.from_settings(FeatureSettings(encoder="conse", masks="watershed"))
    extract_embeddings(ImageFolderSource(photographs), run / "embeddings", models)

    output = run / "example-16.safetensors"
    shutil.rmtree(output.with_suffix(".training"), ignore_errors=True)
    settings = TrainingSettings(steps=150, learning_rate=1e-3, batch_size=128, mix=0.6, mix_noise=0.01, eval_every=50)
    Train(embeddings=(run / "embeddings",), output=output, held_out=("room-1",), training=settings)()

    autoencoder = load_autoencoder(output)
    rows = read_rows([file for file in read_folders((run / "embeddings",)) if file.scene == "room-1"], 1000, seed=0)
    cosine = (autoencoder.decode(autoencoder.encode(rows.embeddings)) * rows.embeddings).sum(dim=1).mean()
    print(f"{len(rows.embeddings)} held-out regions: mean cosine {cosine:.2f} after 16 numbers")


if __name__ == "__main__":
    tyro.cli(main)
