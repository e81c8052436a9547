"""Gaussians in PLY files in the format of Inria's program and `ns-export gaussian-splat`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Shaped
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.packing import from_arrays
from genlangsplat_ns.scene_io.ply_file import PlyElement, read_elements, write_elements
from genlangsplat_ns.utils.files import atomic_path

LOGGER = logging.getLogger(__name__)

MEANS = ("x", "y", "z")
NORMALS = ("nx", "ny", "nz")
CONSTANT = ("f_dc_0", "f_dc_1", "f_dc_2")
OPACITY = ("opacity",)
SCALES = ("scale_0", "scale_1", "scale_2")
QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
REST_COUNTS = (0, 9, 24, 45)
"""Numbers of f_rest properties for degrees 0 to 3: three channels of 0, 3, 8 or 15 harmonics."""

HEADER_BYTES = 1 << 16
"""A longer header is not searched for the offset."""

RENDER_MODE = "SplatRenderMode:"
"""First word of the comment in the header of a PLY file that says how its Gaussians were trained."""

OFFSET = "offset"
"""First word of the comment in the header of a PLY file with what to add to all positions: `comment offset X Y Z`."""


def read_ply(path: Path) -> GaussianParameters:
    """Reads the Gaussians of a binary or text PLY file with properties in any order.

    The f_rest properties are ordered by channel, as in Inria's files. Gaussians with NaN, an infinite value or a zero
    quaternion are dropped with a warning: neither rasterizer renders them, and nerfstudio's exporter drops them too.

    Raises:
        GenLangSplatError: The file is damaged or not a PLY file, lacks properties, has harmonics of an unknown degree,
            or has no Gaussian that can be rendered.
    """
    vertices = _read_vertices(path)
    names = list(vertices.names)
    rest = _harmonic_names(path, names)
    required = (*MEANS, *CONSTANT, *OPACITY, *SCALES, *QUATS)
    missing = [name for name in required if name not in names]
    if missing:
        hint = " It was exported with --ply-color-mode rgb; export it with sh_coeffs." if "red" in names else ""
        hint = hint or " Use another file."
        raise GenLangSplatError(
            f"{path} lacks the properties {', '.join(missing)} of a Gaussian (it has {', '.join(names)}); expected a "
            f"PLY file of Gaussian splats from Inria's program or ns-export gaussian-splat.{hint}"
        )
    ignored = [name for name in names if name not in {*required, *rest, *NORMALS}]
    if ignored:
        LOGGER.info("%s: the properties %s are ignored.", path, ", ".join(ignored))

    def table(columns: tuple[str, ...]) -> Float32[np.ndarray, "num_vertices columns"]:
        rows = np.empty((len(vertices), len(columns)), np.float32)
        for column, name in enumerate(columns):
            rows[:, column] = _column(path, vertices, name)
        return rows

    by_channel = table(rest).reshape(len(vertices), 3, len(rest) // 3)
    return from_arrays(
        *(path, table(MEANS), table(SCALES), table(QUATS), table(CONSTANT)),
        *(by_channel.transpose(0, 2, 1), table(OPACITY)[:, 0]),
    )


def read_header(path: Path) -> list[list[str]]:
    """Returns the words of each line in the header of a PLY file."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES).split(b"end_header", 1)[0].decode("ascii", errors="replace")
    return [line.split() for line in header.splitlines()]


def read_antialiased(path: Path) -> bool:
    """Returns whether a comment of a PLY file says that its Gaussians were trained with antialiasing.

    Brush and SuperSplat write `comment SplatRenderMode: mip`, Postshot `comment antialiased 1`; the last one counts.
    """
    antialiased = False
    for words in read_header(path):
        comment = [word.lower() for word in words[1:]] if words[:1] == ["comment"] else []
        if comment[:1] == [RENDER_MODE.lower()] and comment[1:] in (["mip"], ["default"]):
            antialiased = comment[1] == "mip"
        elif comment[:1] == ["antialiased"] and comment[1:] in (["1"], ["0"]):
            antialiased = comment[1] == "1"
    return antialiased


def header_comments(offset: Sequence[float] | None = None, antialiased: bool = False) -> list[str]:
    """Returns the comments of a PLY file with an offset of the positions, or with Gaussians for antialiasing."""
    comments = [] if offset is None else [" ".join([OFFSET, *(repr(float(value)) for value in offset)])]
    return [*comments, f"{RENDER_MODE} mip"] if antialiased else comments


def read_offset(path: Path) -> Float64[np.ndarray, " 3"]:
    """Returns the offset in the header of a PLY file, which belongs to its positions; zeros if it has none."""
    for words in read_header(path):
        if words[:2] == ["comment", OFFSET] and len(words) == 5:
            try:
                return np.array([float(word) for word in words[2:]])
            except ValueError:
                line = " ".join(words)
                LOGGER.warning("%s: the line %r of the header is ignored; expected three numbers.", path, line)
    return np.zeros(3)


def write_ply(
    path: Path,
    gaussians: GaussianParameters,
    extra: Mapping[str, Tensor | Shaped[np.ndarray, " num_gaussians"]] | None = None,
    offset: Sequence[float] | None = None,
    antialiased: bool = False,
) -> None:
    """Writes Gaussians like Inria's program: binary, with zero normals. `read_ply` restores them bit for bit.

    The `extra` properties by name, one number per Gaussian, are ignored by splat viewers; they have the type of their
    array, or single precision if they are tensors. The `offset`, three numbers to add to the positions, and
    `antialiased` are written as comments, which `read_offset` and `read_antialiased` find.

    Raises:
        GenLangSplatError: There are no Gaussians, a value is NaN or infinite, a quaternion is zero, a tensor is not
            float32 or has a different number of rows, or the degree of the harmonics is unknown.
    """
    check_writable(path, gaussians)
    count = len(gaussians)
    rest = gaussians.features_rest.transpose(1, 2).flatten(1)
    columns: dict[tuple[str, ...], Tensor] = {
        MEANS: gaussians.means,
        NORMALS: torch.zeros(count, 3),
        CONSTANT: gaussians.features_dc,
        tuple(f"f_rest_{number}" for number in range(rest.shape[1])): rest,
        OPACITY: gaussians.opacities,
        SCALES: gaussians.scales,
        QUATS: gaussians.quats,
    }
    values = {name: tensor[:, column] for names, tensor in columns.items() for column, name in enumerate(names)}
    arrays = {name: tensor.detach().cpu().numpy().astype("<f4") for name, tensor in values.items()}
    for name, column in (extra or {}).items():
        arrays[name] = column if isinstance(column, np.ndarray) else column.detach().cpu().numpy().astype("<f4")
    vertices = np.empty(count, np.dtype([(name, array.dtype.newbyteorder("<")) for name, array in arrays.items()]))
    for name, array in arrays.items():
        vertices[name] = array
    with atomic_path(path) as temporary:
        write_elements(temporary, {"vertex": vertices}, header_comments(offset, antialiased))


def check_writable(path: Path, gaussians: GaussianParameters) -> None:
    """Checks Gaussians before they are written to a file of any format.

    Raises:
        GenLangSplatError: There are no Gaussians, a value is NaN or infinite, a quaternion is zero, a tensor is not
            float32 or has a different number of rows, or the degree of the harmonics is unknown.
    """
    count = len(gaussians)
    if count == 0:
        raise GenLangSplatError(f"There are no Gaussians to write to {path}; expected at least one. Select some.")
    for name, tensor in gaussians.tensors().items():
        if len(tensor) != count or tensor.dtype != torch.float32:
            raise GenLangSplatError(
                f"The {name} for {path} are {tensor.dtype} of shape {tuple(tensor.shape)}; expected torch.float32 with "
                f"{count} rows like the means. Convert them first."
            )
        if not bool(tensor.isfinite().all()):
            raise GenLangSplatError(f"The {name} for {path} contain NaN or infinity. Remove these Gaussians.")
    if not bool(gaussians.quats.any(dim=1).all()):
        raise GenLangSplatError(f"The quats for {path} contain zero quaternions. Remove these Gaussians.")
    if 3 * gaussians.features_rest.shape[1] not in REST_COUNTS:
        raise GenLangSplatError(
            f"The features_rest for {path} have shape {tuple(gaussians.features_rest.shape)}; expected 0, 3, 8 or 15 "
            "harmonics with 3 channels. Use a degree of 0 to 3."
        )


def _read_vertices(path: Path) -> PlyElement:
    if not path.is_file():
        raise GenLangSplatError(f"There is no file {path}; expected a PLY file of Gaussian splats. Correct the path.")
    try:
        vertices = next((element for element in read_elements(path) if element.name == "vertex"), None)
    except (OSError, ValueError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as a PLY file ({error}). It is damaged or not a PLY file; export it again."
        ) from error
    if vertices is None:
        raise GenLangSplatError(
            f"{path} has no element called vertex; expected a PLY file of Gaussian splats from Inria's program or "
            "ns-export gaussian-splat. Use another file."
        )
    return vertices


def _harmonic_names(path: Path, names: list[str]) -> tuple[str, ...]:
    """Returns the f_rest properties in numeric order."""
    found = {name for name in names if name.startswith("f_rest_")}
    rest = tuple(f"f_rest_{number}" for number in range(len(found)))
    if len(found) not in REST_COUNTS or found != set(rest):
        absent = [name for name in rest if name not in found]
        raise GenLangSplatError(
            f"{path} has {len(found)} properties f_rest_*{f' without {absent[0]}' if absent else ''}; expected 0, 9, "
            "24 or 45 of them, numbered from f_rest_0, for harmonics of degree 0, 1, 2 or 3. Export it again."
        )
    return rest


def _column(path: Path, vertices: PlyElement, name: str) -> Float32[np.ndarray, " num_vertices"]:
    try:
        return vertices[name].astype(np.float32)
    except ValueError as error:
        raise GenLangSplatError(
            f"The property {name} of {path} is not numeric ({error}); expected one number per Gaussian. Export it "
            "again."
        ) from error
