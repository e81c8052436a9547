"""Writing the Gaussians that a text chooses, or all others, as a PLY file that any splat program opens."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool
from nerfstudio.models.splatfacto import RGB2SH
from rich.markup import escape
from safetensors.torch import save_file
from torch import Tensor

from genlangsplat_ns.chosen_gaussians import Choice
from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.files import atomic_path, check_new_file
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene_io.gaussians import Gaussians
from genlangsplat_ns.scene_io.ply import write_ply

LATENTS_FORMAT = "genlangsplat-latents-1"
"""Stands in the metadata of a file of latents."""

LatentsGoTo = Literal["nowhere", "file", "ply"]


def export_run(
    config_path: Path,
    choice: Choice | None,
    rest: bool,
    latents: LatentsGoTo,
    output: Path,
    overwrite: bool,
) -> int:
    """Writes Gaussians of a run, in the run's own frame, as `ns-export gaussian-splat` does.

    Args:
        config_path: The run's config.yml.
        choice: Which Gaussians; None for all.
        rest: Whether to write all but the chosen ones.
        latents: Whether language latents go to a .safetensors file of the same name, or into properties of the PLY.
        output: The PLY file.
        overwrite: Whether files may be replaced.

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
    scene = open_run(config_path)
    keep = torch.ones(scene.model.num_points, dtype=torch.bool)
    if choice is not None:
        keep = choice.of(scene).keep
    if rest:
        keep = ~keep
    keep = keep & _drawable(scene.model)
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
    write_ply(output, splats_of(scene.model, keep), columns)
    if latents == "file":
        identity = json.dumps(asdict(scene.autoencoder_identity))
        metadata = {"format": LATENTS_FORMAT, "levels": ",".join(LEVELS), "autoencoder": identity}
        with atomic_path(side) as temporary:
            save_file({"latents": chosen.contiguous()}, temporary, metadata=metadata)
    written = " and ".join(escape(str(path)) for path in ((output, side) if latents == "file" else (output,)))
    CONSOLE.print(f"Wrote {len(chosen):,} Gaussians to {written}.")
    return len(chosen)


@torch.no_grad()
def splats_of(model: GenLangSplatModel, keep: Bool[Tensor, " num_gaussians"]) -> Gaussians:
    """Some Gaussians of a model as PLY files hold them, on the CPU.

    Splatfacto without harmonics stores logits of colours; PLY files always hold the constant harmonic.
    """
    stored = {name: model.gauss_params[name].detach().cpu()[keep].float() for name in Gaussians.__dataclass_fields__}
    gaussians = Gaussians(**stored)
    if model.config.sh_degree == 0:
        gaussians = replace(gaussians, features_dc=RGB2SH(torch.sigmoid(gaussians.features_dc)))
    return gaussians


def _drawable(model: GenLangSplatModel) -> Bool[Tensor, " num_gaussians"]:
    """Gaussians that can be written: finite, and with a rotation; no rasterizer draws the others."""
    usable = model.quats.detach().any(dim=1)
    for name in Gaussians.__dataclass_fields__:
        usable &= model.gauss_params[name].detach().flatten(1).isfinite().all(dim=1)
    return usable.cpu()
