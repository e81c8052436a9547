"""Exports Gaussians of a scene as a file for other splat programs, with or without their latents."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.frames import SceneFrame, move_gaussians, rounded_offset
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.runs import TRANSFORMS
from genlangsplat_ns.scene_io.splat_files import SplatFormat, ending_of, format_to_write, write_splats
from genlangsplat_ns.utils.files import atomic_path, check_new_file, write_tensors

LOGGER = logging.getLogger(__name__)

LATENTS_FORMAT = "genlangsplat-latents-2"
"""Format name in the metadata of a latents file. Version 2 also contains the scene memory, if there is one, as
`memory.keys`, `memory.log_masses`, `memory.values` and `memory.concentration`; the formula is in docs/memory.md."""

LatentsGoTo = Literal["nowhere", "file", "ply"]
FrameName = Literal["run", "capture", "data"]
"""`capture` is the frame of the input poses; `data` is its earlier name."""


def export_scene(
    scene: LanguageScene,
    output: Path,
    keep: Bool[Tensor, " num_gaussians"] | None = None,
    latents: LatentsGoTo = "nowhere",
    overwrite: bool = False,
    frame: FrameName = "run",
) -> list[Path]:
    """Writes Gaussians of a scene as PLY, compressed PLY, SPZ or SOG by the file's ending; returns the written files.

    The latents go nowhere, to a .safetensors file with the same name and order, or to properties of a PLY file. The
    positions are in the frame of the run, which nerfstudio rotated, centered and scaled, or in that of the input
    poses.

    Raises:
        GenLangSplatError: No Gaussian is left to write, the frame of the run is unknown, or a file exists or cannot be
            written.
    """
    check_export(output, latents, overwrite)
    drawable = scene.model.drawable()
    keep = drawable if keep is None else keep & drawable
    if not bool(keep.any()):
        raise GenLangSplatError("No Gaussian is left to write. Raise the threshold, or omit --rest.")
    chosen = scene.field.latents.cpu()[keep]
    columns = {
        f"latent_{level}_{component}": chosen[:, index, component]
        for index, level in enumerate(LEVELS if latents == "ply" else ())
        for component in range(chosen.shape[2])
    }
    gaussians, offset = scene.model.splats(keep), None
    if frame != "run":
        gaussians, offset = in_capture_frame(gaussians, require_capture_frame(scene))
    antialiased = scene.model.config.rasterize_mode == "antialiased"
    order = write_splats(output, gaussians, columns, None if offset is None else offset.tolist(), antialiased)
    written = [output]
    if latents == "file":
        written.append(_latents_file(output))
        identity = json.dumps(asdict(scene.autoencoder_identity))
        metadata = {"format": LATENTS_FORMAT, "levels": ",".join(LEVELS), "autoencoder": identity}
        memory = scene.field.memory
        buffers = {} if memory is None else {name: item.cpu() for name, item in memory.named_buffers(prefix="memory")}
        with atomic_path(written[1]) as temporary:
            write_tensors(temporary, {"latents": chosen[order], **buffers}, metadata)
    LOGGER.info("Wrote %s Gaussians to %s.", f"{len(chosen):,}", " and ".join(map(str, written)))
    log_offset(offset)
    return written


def capture_frame(scene: LanguageScene) -> SceneFrame | None:
    """Returns how the input poses became those of the run, from `dataparser_transforms.json`; None without the file.

    Raises:
        GenLangSplatError: The file is damaged.
    """
    path = None if scene.stored is None else scene.stored.folder / TRANSFORMS
    return None if path is None or not path.is_file() else SceneFrame.read(path)


def require_capture_frame(scene: LanguageScene) -> SceneFrame:
    """Returns `capture_frame`.

    Raises:
        GenLangSplatError: There is no file, or it is damaged.
    """
    frame = capture_frame(scene)
    if frame is None:
        path = TRANSFORMS if scene.stored is None else scene.stored.folder / TRANSFORMS
        raise GenLangSplatError(
            f"There is no {path}, which ns-train writes next to config.yml, so the frame of the input poses is "
            "unknown. Restore it, or omit --frame."
        )
    return frame


def in_capture_frame(
    gaussians: GaussianParameters, frame: SceneFrame
) -> tuple[GaussianParameters, Float[Tensor, " 3"] | None]:
    """Moves Gaussians of a run back to the frame of the input poses, relative to an offset if that is far away."""
    back = frame.inverse.matrix
    offset = rounded_offset(gaussians.means.double() @ back[:3, :3].T + back[:3, 3])
    relative = frame if offset is None else frame.relative_to(offset)
    return move_gaussians(gaussians, relative.inverse), offset


def log_offset(offset: Float[Tensor, " 3"] | None) -> None:
    """Logs the offset of a written PLY file, if it has one."""
    if offset is not None:
        LOGGER.info(
            "The data are far from their origin, and files of splats have single precision, so the positions are "
            "relative to the offset %s; the header of the file has it as `comment offset X Y Z`.",
            " ".join(map(repr, offset.tolist())),
        )


def check_export(output: Path, latents: LatentsGoTo, overwrite: bool) -> None:
    """Checks that an export can be written, before the work starts.

    Raises:
        GenLangSplatError: The ending of the output is of no format that can store this, or a file exists or cannot be
            written.
    """
    kind = format_to_write(output)
    if latents == "ply" and kind is not SplatFormat.PLY:
        raise GenLangSplatError(
            f"Found --latents ply with the output {output}; only .ply files have properties of their own. Give a file "
            "that ends in .ply, or write the latents beside it with --latents file."
        )
    for path in (output, _latents_file(output))[: 2 if latents == "file" else 1]:
        check_new_file(path, overwrite)


def _latents_file(output: Path) -> Path:
    """Returns the file beside the output with another ending, also for scene.compressed.ply."""
    return output.with_name(output.name[: -len(ending_of(output))] + ".safetensors")
