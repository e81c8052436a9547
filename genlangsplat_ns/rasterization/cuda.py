"""gsplat on CUDA: the only module that calls its kernels, for all versions of it that this package works with.

What differs between the versions:

- `spherical_harmonics` takes directions, since 1.6 means and view matrices; here its signature decides.
- 1.6 renders only some numbers of channels, which earlier versions pad to; here all are padded.
- `info["radii"]` has one value for each Gaussian, since 1.5 two (width and height). It is handed on as it is, because
  the densification of the same gsplat reads it.
"""

from __future__ import annotations

import inspect
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from packaging.specifiers import SpecifierSet
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization.scene_types import Gaussians, View

SUPPORTED = SpecifierSet(">=1.4,<1.7")
"""The versions whose signatures tests compare with the calls below."""

CHANNEL_CHUNK = 32
"""Channels that gsplat renders at once."""

CHANNELS = (1, 2, 3, 4, 8, 16, CHANNEL_CHUNK)
"""Numbers of channels that all versions have kernels for."""

ADVICE = "Install a supported one: pip install --no-deps gsplat==1.5.3 (see docs/installing.md)."


def rasterize(arguments: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Calls `gsplat.rasterization` with all arguments of `dispatch.rasterization`.

    Raises:
        GenLangSplatError: gsplat is missing, or its version is not supported.
    """
    colors, mode, added = arguments["colors"], arguments["render_mode"], 0
    if arguments["sh_degree"] is None and "RGB" in mode:
        added = _missing_channels(colors.shape[-1] + (mode != "RGB"))
    if added:
        backgrounds = arguments["backgrounds"]
        padded = None if backgrounds is None else F.pad(backgrounds, (0, added))
        arguments = {**arguments, "colors": F.pad(colors, (0, added)), "backgrounds": padded}
    image, alphas, info = load_gsplat().rasterization(**arguments)
    if added:
        # The depth comes last.
        image = torch.cat((image[..., : colors.shape[-1]], image[..., colors.shape[-1] + added :]), dim=-1)
    return image, alphas, info


def _missing_channels(channels: int) -> int:
    """The number of channels to add, so that the last chunk has a number that all versions render."""
    last = (channels - 1) % CHANNEL_CHUNK + 1
    return next(count for count in CHANNELS if count >= last) - last


@torch.no_grad()
def shade(
    gaussians: Gaussians, view: View, harmonics: Float[Tensor, "num_gaussians bases 3"], sh_degree: int
) -> Float[Tensor, "num_gaussians 3"]:
    """Computes the colors that `rasterize` derives from harmonics in one view.

    Raises:
        GenLangSplatError: gsplat is missing, or its version is not supported.
    """
    evaluate = load_gsplat().spherical_harmonics
    colors: Tensor
    if "viewmats" in inspect.signature(evaluate).parameters:
        colors = evaluate(sh_degree, gaussians.means, view.viewmat[None], harmonics)[0]
    else:
        directions = gaussians.means - torch.linalg.inv(view.viewmat)[:3, 3]
        colors = evaluate(sh_degree, directions, harmonics)
    return (colors + 0.5).clamp_(min=0.0)


@cache
def load_gsplat() -> ModuleType:
    """Imports gsplat; only when CUDA is used, because the import takes time that other machines can save.

    Raises:
        GenLangSplatError: gsplat is missing, or its version is not supported.
    """
    try:
        import gsplat
    except ImportError as error:
        raise GenLangSplatError(f"gsplat, which renders on CUDA, cannot be imported: {error}. {ADVICE}") from error
    if not SUPPORTED.contains(gsplat.__version__, prereleases=True):
        raise GenLangSplatError(f"gsplat {gsplat.__version__} is installed; expected {SUPPORTED}. {ADVICE}")
    module: ModuleType = gsplat
    return module
