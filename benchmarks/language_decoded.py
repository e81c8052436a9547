"""Decodes the latents of the compared solvers with one memory of the scene.

    python benchmarks/language_phase.py --data DATA --parts adam --latents FOLDER
    python benchmarks/language_decoded.py --data DATA --latents FOLDER --json decoded.json

FOLDER has the latents of lifting and of Adam's best stops. The memory of a scene is fitted
to robustly lifted latents, which are computed again, and decodes those of every solver. The figures are those of
held-out views: the cosine of decoded pixels with the noiseless embeddings of their objects, and the mean IoU of the
pixels whose embedding is nearest to that of an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.memory import MemoryDecoder
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions
from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from support.benchmark import Benchmark, Goal, Results, Row
from support.composed_scene import RegionSettings, region_features, source_vectors
from support.language_race import SCENES, scene_named
from support.language_scene import LatentScene, Overlap, held_out_pixels
from support.tables import print_table

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


def composed_latents(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Reads the latents of the composed scenes, by scene and solver.

    Raises:
        GenLangSplatError: There are none.
    """
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            scene = file.metadata()["scene"]
            if scene in SCENES:
                found[scene] = {solver: file.get_tensor(solver) for solver in file.keys()}  # noqa: SIM118 - no mapping
    if not found:
        raise GenLangSplatError(
            f"Found no latents of composed scenes in {folder}; expected .safetensors files. "
            "Write them with language_phase.py --parts adam --latents FOLDER."
        )
    return found


def measure_scene(data: Path, name: str, latents: dict[str, Tensor]) -> list[Row]:
    """One row for every solver with latents of a scene."""
    scene = scene_named(data, name)
    robust, decode = lift_and_remember(scene, RegionSettings(mislabeled=SCENES[name][1]))
    return [
        {"scene": name, "solver": solver, **decoded_figures(scene, decode, found)}
        for solver, found in (latents | {ROBUST: robust}).items()
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


@dataclass(frozen=True, kw_only=True)
class LanguageDecodedBenchmark(Benchmark):
    """Latents of the compared solvers, decoded with one memory."""

    data: Path
    """Folder of all data sets."""
    latents: Path
    """Folder written by language_phase.py --latents."""
    quick: bool = False
    """Decode only the first scene."""

    def measure(self) -> Results:
        """Decodes the latents of all composed scenes in the folder."""
        stored = composed_latents(self.latents)
        scenes = list(stored)[: 1 if self.quick else None]
        rows = [row for scene in scenes for row in measure_scene(self.data, scene, stored[scene])]
        print_table(
            ("scene", "solver", "decoded cosine", "decoded mIoU"),
            ((row["scene"], row["solver"], f"{row['cosine']:.4f}", f"{row['miou']:.4f}") for row in rows),
        )
        return rows, goals_of(rows)


if __name__ == "__main__":
    LanguageDecodedBenchmark.main()
