"""Decodes the latents of the compared solvers with one memory of the scene.

    python benchmarks/language_phase.py --data DATA --parts adam --latents FOLDER
    python benchmarks/language_decoded.py --latents FOLDER --json decoded.json

FOLDER has the latents of lifting and of Adam's best stops, with their composed scenes. The memory of a scene is fitted
to robustly lifted latents, which are computed again, and decodes those of every solver. The figures are those of
held-out views: the cosine of decoded pixels with the noiseless embeddings of their objects, and the mean IoU of the
pixels whose embedding is nearest to that of an object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from common import Goal, options_of, write_results
from composed_scene import RegionSettings, region_features, source_vectors
from genlangsplat_ns.language.memory import MemoryDecoder
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions
from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from genlangsplat_ns.utils.console import CONSOLE
from language_scene import LatentScene, Overlap, held_out_pixels

Row = dict[str, Any]

ROBUST = "robust (default)"


def lift_and_remember(scene: LatentScene, settings: RegionSettings) -> tuple[Tensor, MemoryDecoder]:
    """Robustly lifted latents, and the memory fitted to them."""
    views = []
    for index in scene.scene.split("train"):
        regions, latents = scene.regions[index]
        embeddings = region_features(scene.scene, index, settings).embeddings
        views.append(RegionView(scene.weights[index], regions, latents, embeddings=embeddings))
    lifted = lift_latents(views, *scene.shape, LiftSettings(), with_consensus=True)
    assert lifted.region_consensus is not None, "lifting was asked for the consensus"
    regions_seen = MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights)
    return lifted.latents, MemoryDecoder(fit_memory(regions_seen, "clip-vit-b-32"), scene.autoencoder.decode)


@torch.no_grad()
def decoded_figures(scene: LatentScene, decode: MemoryDecoder, latents: Tensor) -> dict[str, float]:
    """Cosine and mean IoU of decoded pixels."""
    sources = source_vectors(scene.scene, RegionSettings())
    cosines, overlap = [], Overlap(len(scene.scene.objects))
    for rendered, truth in held_out_pixels(scene, latents):
        embeddings = decode(rendered)
        cosines.append((embeddings * sources[truth][:, None]).sum(dim=-1).mean())
        overlap.add((embeddings @ F.normalize(sources, dim=-1).T).argmax(dim=-1), truth)
    return {"cosine": float(torch.stack(cosines).mean()), "miou": overlap.mean()}


def measure(path: Path) -> list[Row]:
    """One row for every solver with latents in a file."""
    # The file was written by another benchmark and is trusted.
    stored = torch.load(path, weights_only=False)
    if "scene" not in stored:
        return []
    scene = stored["scene"].with_new_weights()
    robust, decode = lift_and_remember(scene, RegionSettings(mislabeled=0.3 if "mislabeled" in path.stem else 0.0))
    solvers = {"plain": stored["lifted"]["plain"], ROBUST: robust} | {
        name: best["latents"] for name, best in stored["adam"].items()
    }
    return [
        {"scene": path.stem, "solver": name, **decoded_figures(scene, decode, latents)}
        for name, latents in solvers.items()
    ]


def goals_of(rows: list[Row]) -> list[Goal]:
    """Goals for the difference between robust lifting and each of Adam's best."""
    goals = []
    for row in rows:
        if row["solver"] in ("plain", ROBUST):
            continue
        lifted = next(other for other in rows if (other["scene"], other["solver"]) == (row["scene"], ROBUST))
        goals += [
            Goal(f"{row['scene']}, decoded {key}: robust minus {row['solver']}", lifted[key] - row[key], ">=", -0.005)
            for key in ("cosine", "miou")
        ]
    return goals


def main() -> None:
    """Decodes the latents of all scenes in a folder."""
    parser = options_of(__doc__, "only the first scene")
    parser.add_argument("--latents", type=Path, required=True, help="folder written by language_phase.py --latents")
    options = parser.parse_args()
    files = sorted(options.latents.glob("*.pt"))
    rows = [row for path in (files[:1] if options.quick else files) for row in measure(path)]
    table = Table("scene", "solver", "decoded cosine", "decoded mIoU")
    for row in rows:
        table.add_row(row["scene"], row["solver"], f"{row['cosine']:.4f}", f"{row['miou']:.4f}")
    CONSOLE.print(table)
    write_results(options.json, rows, goals_of(rows))


if __name__ == "__main__":
    main()
