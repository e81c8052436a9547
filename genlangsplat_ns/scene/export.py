"""Exports Gaussians of a scene as a PLY file for other splat programs, with or without their latents."""

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
"""Format name in the metadata of a latents file. Version 2 also contains the scene memory, if there is one, as
`memory.keys`, `memory.log_masses`, `memory.values` and `memory.concentration`; the formula is in docs/memory.md."""

LatentsGoTo = Literal["nowhere", "file", "ply"]


def export_scene(
    scene: LanguageScene,
    output: Path,
    keep: Bool[Tensor, " num_gaussians"] | None = None,
    latents: LatentsGoTo = "nowhere",
    overwrite: bool = False,
) -> list[Path]:
    """Writes Gaussians of a scene, in the coordinate frame of the run, in the format of `ns-export gaussian-splat`.

    Args:
        scene: The scene.
        output: The PLY file.
        keep: Mask of the Gaussians to write; None for all.
        latents: Write no latents, a .safetensors file with the same name, or properties of the PLY file.
        overwrite: Replace existing files.

    Returns:
        The written files.

    Raises:
        GenLangSplatError: No Gaussian is left to write, or a file exists or cannot be written.
    """
    check_export(output, latents, overwrite)
    drawable = scene.model.drawable()
    keep = drawable if keep is None else keep & drawable
    if not bool(keep.any()):
        raise GenLangSplatError("No Gaussian is left to write. Raise the threshold, or omit --rest.")
    chosen = scene.field.latents.cpu()[keep]
    columns = {}
    if latents == "ply":
        columns = {
            f"latent_{level}_{component}": chosen[:, index, component]
            for index, level in enumerate(LEVELS)
            for component in range(chosen.shape[2])
        }
    write_ply(output, scene.model.splats(keep), columns)
    written = [output]
    if latents == "file":
        written.append(output.with_suffix(".safetensors"))
        identity = json.dumps(asdict(scene.autoencoder_identity))
        metadata = {"format": LATENTS_FORMAT, "levels": ",".join(LEVELS), "autoencoder": identity}
        memory = scene.field.memory
        buffers = {} if memory is None else {name: item.cpu() for name, item in memory.named_buffers(prefix="memory")}
        with atomic_path(written[1]) as temporary:
            save_file({"latents": chosen.contiguous(), **buffers}, temporary, metadata=metadata)
    LOGGER.info("Wrote %s Gaussians to %s.", f"{len(chosen):,}", " and ".join(map(str, written)))
    return written


def check_export(output: Path, latents: LatentsGoTo, overwrite: bool) -> None:
    """Checks that an export can be written, before the work starts.

    Raises:
        GenLangSplatError: The output has no .ply suffix, or a file exists or cannot be written.
    """
    if output.suffix != ".ply":
        raise GenLangSplatError(f"Found the output {output}; give a file name that ends in .ply.")
    for path in (output, output.with_suffix(".safetensors"))[: 2 if latents == "file" else 1]:
        check_new_file(path, overwrite)
