"""Checks of the arguments of the rasterizer, with messages that say what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization.scene_types import Gaussians, View

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
RASTERIZE_MODES = ("classic", "antialiased")
MAX_SH_DEGREE = 3
MAX_COUNT = 2**31 - 1
"""Gaussians, and pixels of an image, at most: their indices have 32 bits."""


def check_tensor(name: str, tensor: object, shape: tuple[int | None, ...]) -> Tensor:
    """Returns a contiguous version of a float32 CPU tensor of the given shape (None allows any size).

    Raises:
        GenLangSplatError: The argument is something else.
    """
    if not isinstance(tensor, Tensor):
        raise GenLangSplatError(f"{name} is a {type(tensor).__name__}; expected a torch.Tensor. Convert it.")
    fits = tensor.dim() == len(shape) and all(
        want is None or have == want for have, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise GenLangSplatError(f"{name} has shape {tuple(tensor.shape)}; expected ({wanted}). Correct it.")
    if tensor.layout != torch.strided:
        raise GenLangSplatError(f"{name} is {tensor.layout}; expected a dense tensor. Convert it with .to_dense().")
    if tensor.device.type != "cpu":
        raise GenLangSplatError(f"{name} is on {tensor.device}; expected the CPU like the means. Move it with .cpu().")
    if tensor.dtype != torch.float32:
        raise GenLangSplatError(f"{name} is {tensor.dtype}; expected torch.float32. Convert it with .float().")
    with memory_for(tensor.shape):
        return tensor.resolve_neg().contiguous()


@contextmanager
def memory_for(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Within this context, torch allocates one tensor of this shape.

    Raises:
        GenLangSplatError: The system does not give so much memory.
    """
    try:
        yield
    except RuntimeError as error:
        raise GenLangSplatError(
            f"The system gives no memory for an array of {tuple(shape)}; expected "
            f"{math.prod(shape) * dtype.itemsize / 1e9:.3g} GB. Use fewer Gaussians, a smaller image or fewer channels "
            "at once."
        ) from error


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns an uninitialized CPU tensor; raises GenLangSplatError if the system does not give so much memory."""
    with memory_for(shape, dtype):
        return torch.empty(shape, dtype=dtype)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises GenLangSplatError unless `value` is one of `choices`."""
    if value not in choices:
        raise GenLangSplatError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")


def check_scene(
    means: object, quats: object, scales: object, opacities: object, viewmat: object, K: object, width: int, height: int
) -> tuple[Gaussians, View]:
    """Checks N Gaussians and one view, and makes their tensors contiguous.

    Raises:
        GenLangSplatError: Names the first argument that does not fit.
    """
    for name, size in (("width", width), ("height", height)):
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 65536:
            raise GenLangSplatError(f"{name} is {size!r}; expected a number of pixels from 0 to 65535. Correct it.")
    if width * height > MAX_COUNT:
        raise GenLangSplatError(
            f"The image has {width} x {height} pixels; expected at most {MAX_COUNT} in all. Reduce its size."
        )
    if isinstance(means, Tensor) and means.dim() > 0 and len(means) > MAX_COUNT:
        raise GenLangSplatError(
            f"Found {len(means)} Gaussians in means; expected at most {MAX_COUNT}. Split the scene."
        )
    means = check_tensor("means", means, (None, 3))
    count = means.shape[0]
    viewmat = check_tensor("viewmat", viewmat, (4, 4))
    K = check_tensor("K", K, (3, 3))
    focal = (K[0, 0].item(), K[1, 1].item())
    if not all(0 < value < float("inf") for value in focal) or not bool(torch.isfinite(K).all()):
        raise GenLangSplatError(f"K has focal lengths {focal}; expected finite and positive ones. Correct the camera.")
    if not bool(torch.isfinite(viewmat).all()):
        raise GenLangSplatError("viewmat holds NaN or infinity; expected finite numbers. Correct the camera.")
    gaussians = Gaussians(
        means=means,
        quats=check_tensor("quats", quats, (count, 4)),
        scales=check_tensor("scales", scales, (count, 3)),
        opacities=check_tensor("opacities", opacities, (count,)),
    )
    return gaussians, View(viewmat, K, width, height)
