"""Writing the Gaussians that a text chooses, or all others, as a PLY file that any splat program opens."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from rich.markup import escape
from safetensors.torch import save_file

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.memory import DecoderName
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.chosen_gaussians import Choice
from genlangsplat_ns.scene_io.ply import write_ply
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path, check_new_file

LATENTS_FORMAT = "genlangsplat-latents-2"
"""Stands in the metadata of a file of latents. Version 2 has the scene's memory beside them, where there is one, as
`memory.keys`, `memory.log_masses`, `memory.values` and `memory.concentration`; the formula is in docs/memory.md."""

LatentsGoTo = Literal["nowhere", "file", "ply"]


def export_run(
    config_path: Path,
    choice: Choice | None,
    rest: bool,
    latents: LatentsGoTo,
    output: Path,
    overwrite: bool,
    decoder: DecoderName | None = None,
) -> int:
    """Writes Gaussians of a run, in the run's own frame, as `ns-export gaussian-splat` does.

    Args:
        config_path: The run's config.yml.
        choice: Which Gaussians; None for all.
        rest: Whether to write all but the chosen ones.
        latents: Whether language latents go to a .safetensors file of the same name, or into properties of the PLY.
        output: The PLY file.
        overwrite: Whether files may be replaced.
        decoder: What decodes latents; None for what the run says.

    Returns:
        How many Gaussians were written.

    Raises:
        GenLangSplatError: The run cannot be opened, nothing is chosen or left, or a file exists or cannot be written.
    """
    if output.suffix != ".ply":
        raise GenLangSplatError(f"Found the output {output}; expected a file name that ends in .ply.")
    side = output.with_suffix(".safetensors")
    for path in (output, side)[: 2 if latents == "file" else 1]:
        check_new_file(path, overwrite)
    scene = open_run(config_path, decoder)
    keep = torch.ones(scene.model.num_points, dtype=torch.bool)
    if choice is not None:
        keep = choice.of(scene).keep
    if rest:
        keep = ~keep
    keep = keep & scene.model.drawable()
    if not bool(keep.any()):
        raise GenLangSplatError("No Gaussian is left to write. Raise the threshold, or leave out --rest.")
    chosen = scene.model.latents.detach().cpu()[keep]
    columns = {}
    if latents == "ply":
        columns = {
            f"latent_{level}_{place}": chosen[:, index, place]
            for index, level in enumerate(LEVELS)
            for place in range(chosen.shape[2])
        }
    write_ply(output, scene.model.splats(keep), columns)
    if latents == "file":
        identity = json.dumps(asdict(scene.autoencoder_identity))
        metadata = {"format": LATENTS_FORMAT, "levels": ",".join(LEVELS), "autoencoder": identity}
        with atomic_path(side) as temporary:
            parts = () if scene.model.memory is None else scene.model.memory.named_buffers(prefix="memory")
            remembered = {name: part.cpu() for name, part in parts}
            save_file({"latents": chosen.contiguous(), **remembered}, temporary, metadata=metadata)
    written = " and ".join(escape(str(path)) for path in ((output, side) if latents == "file" else (output,)))
    CONSOLE.print(f"Wrote {len(chosen):,} Gaussians to {written}.")
    return len(chosen)
