"""Score a scene against labels of your own.

    python examples/06_evaluate_own_labels.py --run gallery-run

Here the labels are black-and-white pictures, `LABELS/VIEW/CLASS.png`, which any paint program writes. The exact
outlines of the gallery stand in for what you would paint.
"""

from __future__ import annotations

from pathlib import Path

import tyro
from PIL import Image

from gallery_run import DEFAULT_FOLDER, gallery_run, gallery_scene
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.scene.evaluation import evaluate_scene
from genlangsplat_ns.scene.settings import EvaluationSettings

TEXTS = {"cat": "a cat", "temple": "a temple"}
"""The text by which each class is asked for: the name of its files."""


def paint_labels(scene: Path, folder: Path) -> None:
    """Writes a mask per view and class."""
    for labels in read_label_set(scene / "labels").views.values():
        for category in set(labels.categories) & TEXTS.keys():
            path = folder / Path(labels.name).stem / f"{TEXTS[category]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels.truth(category).mask).save(path)


def main(run: Path = DEFAULT_FOLDER) -> None:
    """Evaluates two texts.

    Args:
        run: Folder of the example scene and its run.
    """
    scene = gallery_run(run)
    paint_labels(gallery_scene(run), run / "own-labels")
    settings = EvaluationSettings(labels=run / "own-labels", protocol=("threshold",), mode="gaussian")
    done = evaluate_scene(scene, run / "evaluation", settings)
    held_out = done.document["protocols"]["threshold"]["eval"]
    miou, hits = (held_out["micro"][name] for name in ("miou", "localization"))
    print(f"{held_out['pairs']} pairs of held-out view and text: mean IoU {miou:.2f}, peaks on the object {hits:.0%}")
    print(f"The answers, worst first, are in {run / 'evaluation' / 'report.html'}.")


if __name__ == "__main__":
    tyro.cli(main)
