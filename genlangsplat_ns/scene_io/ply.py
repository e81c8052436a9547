"""Gaussians in PLY files, as Inria's program and `ns-export gaussian-splat` write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import torch
from jaxtyping import Float32
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path

MEANS = ("x", "y", "z")
NORMALS = ("nx", "ny", "nz")
CONSTANT = ("f_dc_0", "f_dc_1", "f_dc_2")
OPACITY = ("opacity",)
SCALES = ("scale_0", "scale_1", "scale_2")
QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
REST_COUNTS = (0, 9, 24, 45)
"""Numbers of f_rest properties for the degrees 0 to 3: three channels of 0, 3, 8 or 15 harmonics."""


def read_ply(path: Path) -> GaussianParameters:
    """Reads the Gaussians of a binary or text PLY file; its properties may come in any order.

    Gaussians with a NaN, an infinite value or a rotation of length zero are left out, and their number is said:
    neither rasterizer draws them, nerfstudio's exporter leaves them out too, and a scene with a few of them is whole.

    Args:
        path: A file whose f_rest properties run channel by channel, as Inria's do.

    Raises:
        GenLangSplatError: The file is no PLY file or damaged, lacks properties, has harmonics of no known degree, or
            holds no Gaussian that can be drawn.
    """
    vertices = _read_vertices(path)
    names = [item.name for item in vertices.properties]
    rest = _harmonic_names(path, names)
    required = (*MEANS, *CONSTANT, *OPACITY, *SCALES, *QUATS)
    missing = [name for name in required if name not in names]
    if missing:
        hint = " It was exported with --ply-color-mode rgb; export it with sh_coeffs." if "red" in names else ""
        raise GenLangSplatError(
            f"{path} lacks the properties {', '.join(missing)} of a Gaussian (it has {', '.join(names)}).{hint} "
            "Expected a PLY file of Gaussian splats by Inria's program or ns-export gaussian-splat."
        )
    if len(vertices.data) == 0:
        raise GenLangSplatError(f"{path} holds no Gaussians. Export the scene again, or name another file.")
    ignored = [name for name in names if name not in {*required, *rest, *NORMALS}]
    if ignored:
        CONSOLE.print(escape(f"{path}: the properties {', '.join(ignored)} are ignored."))
    values = {name: _column(path, vertices, name) for name in (*required, *rest)}
    usable = np.logical_and.reduce([np.isfinite(column) for column in values.values()])
    usable &= np.logical_or.reduce([values[name] != 0 for name in QUATS])
    if not usable.any():
        raise GenLangSplatError(
            f"None of the {len(usable):,} Gaussians in {path} can be drawn: every one has a NaN, an infinite value or "
            "a rotation of zero. Export the scene again."
        )
    if not usable.all():
        CONSOLE.print(
            f"[yellow]{escape(str(path))}: {np.count_nonzero(~usable):,} of {len(usable):,} Gaussians are left out, "
            "because they have a NaN, an infinite value or a rotation of zero."
        )

    def table(columns: tuple[str, ...]) -> Any:
        picked = [values[name][usable] for name in columns]
        # A table of no columns still has rows.
        return torch.from_numpy(np.stack(picked, axis=1) if picked else np.zeros((int(usable.sum()), 0), np.float32))

    return GaussianParameters(
        means=table(MEANS),
        scales=table(SCALES),
        quats=table(QUATS),
        features_dc=table(CONSTANT),
        features_rest=table(rest).unflatten(1, (3, len(rest) // 3)).transpose(1, 2).contiguous(),
        opacities=table(OPACITY),
    )


def write_ply(path: Path, gaussians: GaussianParameters, further: Mapping[str, Tensor] | None = None) -> None:
    """Writes Gaussians as Inria's program does: binary, with normals of zero; `read_ply` returns the same bits.

    Args:
        path: The file, which is replaced as a whole.
        gaussians: What to write.
        further: More properties by name, one number per Gaussian; programs that draw splats pass over them.

    Raises:
        GenLangSplatError: There are no Gaussians, a value cannot be drawn, a tensor is not float32 or has rows of its
            own number, or the harmonics are of no known degree.
    """
    count = len(gaussians)
    if count == 0:
        raise GenLangSplatError(f"There are no Gaussians to write to {path}.")
    for name, tensor in gaussians.tensors().items():
        if len(tensor) != count or tensor.dtype != torch.float32:
            raise GenLangSplatError(
                f"The {name} for {path} are {tensor.dtype} of shape {tuple(tensor.shape)}; expected torch.float32 with "
                f"{count} rows like the means."
            )
        if not bool(tensor.isfinite().all()):
            raise GenLangSplatError(f"The {name} for {path} hold NaN or infinity. Take these Gaussians out.")
    if not bool(gaussians.quats.any(dim=1).all()):
        raise GenLangSplatError(f"The quats for {path} hold rotations of length zero. Take these Gaussians out.")
    rest = gaussians.features_rest.transpose(1, 2).flatten(1)
    if rest.shape[1] not in REST_COUNTS:
        raise GenLangSplatError(
            f"The features_rest for {path} have shape {tuple(gaussians.features_rest.shape)}; expected 0, 3, 8 or 15 "
            "harmonics of 3 channels."
        )
    columns: dict[tuple[str, ...], Tensor] = {
        MEANS: gaussians.means,
        NORMALS: torch.zeros(count, 3),
        CONSTANT: gaussians.features_dc,
        tuple(f"f_rest_{number}" for number in range(rest.shape[1])): rest,
        OPACITY: gaussians.opacities,
        SCALES: gaussians.scales,
        QUATS: gaussians.quats,
    }
    columns |= {(name,): values[:, None] for name, values in (further or {}).items()}
    rows = torch.cat([tensor.detach().cpu() for tensor in columns.values()], dim=1).numpy()
    layout = np.dtype([(name, "<f4") for names in columns for name in names])
    vertices = plyfile.PlyElement.describe(rows.astype("<f4", copy=False).view(layout).reshape(-1), "vertex")
    with atomic_path(path) as temporary:
        plyfile.PlyData([vertices], byte_order="<").write(str(temporary))


def _read_vertices(path: Path) -> plyfile.PlyElement:
    if not path.is_file():
        raise GenLangSplatError(f"There is no file {path}. Expected a PLY file of Gaussian splats.")
    try:
        return plyfile.PlyData.read(str(path))["vertex"]
    except KeyError as error:
        raise GenLangSplatError(
            f"{path} has no element called vertex. Expected a PLY file of Gaussian splats by Inria's program or "
            "ns-export gaussian-splat."
        ) from error
    except (plyfile.PlyParseError, plyfile.PlyHeaderParseError, OSError, ValueError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as a PLY file ({error}). It is damaged or of another kind; export it again."
        ) from error


def _harmonic_names(path: Path, names: list[str]) -> tuple[str, ...]:
    """The f_rest properties in the order of their numbers."""
    found = {name for name in names if name.startswith("f_rest_")}
    rest = tuple(f"f_rest_{number}" for number in range(len(found)))
    if len(found) not in REST_COUNTS or found != set(rest):
        absent = [name for name in rest if name not in found]
        raise GenLangSplatError(
            f"{path} has {len(found)} properties f_rest_*{f' without {absent[0]}' if absent else ''}; expected "
            "f_rest_0 and on, 0, 9, 24 or 45 of them for harmonics of degree 0, 1, 2 or 3. Export it again."
        )
    return rest


def _column(path: Path, vertices: plyfile.PlyElement, name: str) -> Float32[np.ndarray, " num_vertices"]:
    try:
        return np.asarray(vertices[name]).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise GenLangSplatError(f"The property {name} of {path} is no number ({error}). Export it again.") from error
