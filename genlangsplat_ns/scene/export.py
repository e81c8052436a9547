"""Writing Gaussians of a scene as a PLY file that any splat program opens, with or without their latents."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from jaxtyping import Bool
from safetensors.torch import save_file
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.ply import write_ply
from genlangsplat_ns.utils.files import atomic_path, check_new_file

LOGGER = logging.getLogger(__name__)

LATENTS_FORMAT = "genlangsplat-latents-2"
"""Stands in the metadata of a file of latents. Version 2 has the scene's memory beside them, where there is one, as
`memory.keys`, `memory.log_masses`, `memory.values` and `memory.concentration`; the formula is in docs/memory.md."""

LatentsGoTo = Literal["nowhere", "file", "ply"]


def export_scene(
    scene: LanguageScene,
    output: Path,
    keep: Bool[Tensor, " num_gaussians"] | None = None,
    latents: LatentsGoTo = "nowhere",
    overwrite: bool = False,
) -> list[Path]:
    """Writes Gaussians of a scene, in the run's own frame, as `ns-export gaussian-splat` does.

    Args:
        scene: The scene.
        output: The PLY file.
        keep: Which Gaussians to write; None for all.
        latents: Whether language latents go to a .safetensors file of the same name, or into properties of the PLY.
        overwrite: Whether files may be replaced.

    Returns:
        The files.

    Raises:
        GenLangSplatError: No Gaussian is left to write, or a file exists or cannot be written.
    """
    check_export(output, latents, overwrite)
    drawable = scene.model.drawable()
    keep = drawable if keep is None else keep & drawable
    if not bool(keep.any()):
        raise GenLangSplatError("No Gaussian is left to write. Raise the threshold, or leave out --rest.")
    chosen = scene.field.latents.cpu()[keep]
    columns = {}
    if latents == "ply":
        columns = {
            f"latent_{level}_{place}": chosen[:, index, place]
            for index, level in enumerate(LEVELS)
            for place in range(chosen.shape[2])
        }
    write_ply(output, scene.model.splats(keep), columns)
    written = [output]
    if latents == "file":
        written.append(output.with_suffix(".safetensors"))
        identity = json.dumps(asdict(scene.autoencoder_identity))
        metadata = {"format": LATENTS_FORMAT, "levels": ",".join(LEVELS), "autoencoder": identity}
        memory = scene.field.memory
        parts = {} if memory is None else {name: part.cpu() for name, part in memory.named_buffers(prefix="memory")}
        with atomic_path(written[1]) as temporary:
            save_file({"latents": chosen.contiguous(), **parts}, temporary, metadata=metadata)
    LOGGER.info("Wrote %s Gaussians to %s.", f"{len(chosen):,}", " and ".join(map(str, written)))
    return written


def check_export(output: Path, latents: LatentsGoTo, overwrite: bool) -> None:
    """Checks before long work that an export can be written.

    Raises:
        GenLangSplatError: The file is no .ply file, or a file exists or cannot be written.
    """
    if output.suffix != ".ply":
        raise GenLangSplatError(f"Found the output {output}; expected a file name that ends in .ply.")
    for path in (output, output.with_suffix(".safetensors"))[: 2 if latents == "file" else 1]:
        check_new_file(path, overwrite)
