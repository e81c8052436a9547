"""The rasterizer in plain torch, differentiated by autograd: slow and readable.

Works on any device with any float type. The steps and constants are those of gsplat 1.4.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from genlangsplat_ns.rasterization import Gaussians, View
from genlangsplat_ns.rasterization.harmonics import harmonic_bases

TILE = 16
MAX_OPACITY = 0.999
MIN_OPACITY = 1.0 / 255.0
MIN_TRANSMITTANCE = 1e-4


@dataclass(frozen=True)
class Splats:
    """Projected Gaussians; `radii` are whole pixels, 0 for invisible Gaussians."""

    means2d: Float[Tensor, "num_gaussians 2"]
    conics: Float[Tensor, "num_gaussians 3"]
    depths: Float[Tensor, " num_gaussians"]
    radii: Int[Tensor, " num_gaussians"]
    compensations: Float[Tensor, " num_gaussians"]


def rotation_matrices(quats: Float[Tensor, "num 4"]) -> Float[Tensor, "num 3 3"]:
    """Rotation matrices of quaternions w, x, y, z of any length."""
    w, x, y, z = functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), -1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), -1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), -1),
    )
    return torch.stack(rows, -2)


def project(
    gaussians: Gaussians, view: View, *, near_plane: float = 0.01, far_plane: float = 1e10, eps2d: float = 0.3
) -> Splats:
    """Projects Gaussians by the local affine approximation of the perspective (EWA splatting, Zwicker et al. 2002)."""
    means, width, height = gaussians.means, view.width, view.height
    rotation = view.viewmat[:3, :3]
    positions = means @ rotation.T + view.viewmat[:3, 3]
    x, y, z = positions.unbind(-1)
    (fx, _, cx), (_, fy, cy) = view.K[0], view.K[1]

    # Tangents are clamped at 15 % of the image size beyond the border, where the approximation breaks down.
    tangent_x = (x / z).clamp(-(cx / fx + 0.15 * width / fx), (width - cx) / fx + 0.15 * width / fx)
    tangent_y = (y / z).clamp(-(cy / fy + 0.15 * height / fy), (height - cy) / fy + 0.15 * height / fy)
    zero = torch.zeros_like(z)
    jacobians = torch.stack(
        (torch.stack((fx / z, zero, -fx * tangent_x / z), -1), torch.stack((zero, fy / z, -fy * tangent_y / z), -1)), -2
    )
    shapes = jacobians @ rotation @ (rotation_matrices(gaussians.quats) * gaussians.scales[:, None, :])
    covariances = shapes @ shapes.transpose(1, 2)

    sharp = torch.linalg.det(covariances)
    covariances = covariances + eps2d * torch.eye(2, dtype=means.dtype, device=means.device)
    a, b, c = covariances[:, 0, 0], covariances[:, 0, 1], covariances[:, 1, 1]
    determinant = a * c - b * b
    conics = torch.stack((c, -b, a), -1) / determinant[:, None]
    means2d = torch.stack((fx * x / z + cx, fy * y / z + cy), -1)

    middle = 0.5 * (a + c)
    radii = torch.ceil(3.0 * torch.sqrt(middle + torch.sqrt((middle**2 - determinant).clamp(min=0.01))))
    visible = (z >= near_plane) & (z <= far_plane) & (determinant > 0)
    for centers, size in ((means2d[:, 0], width), (means2d[:, 1], height)):
        visible &= (centers + radii > 0) & (centers - radii < size)
    return Splats(
        means2d=means2d,
        conics=conics,
        depths=z,
        radii=torch.where(visible, radii, 0.0).int(),
        # The lower bound keeps the derivative of the square root finite for Gaussians that are seen edge-on.
        compensations=torch.sqrt((sharp / determinant).clamp(min=1e-12)),
    )


def shade(
    gaussians: Gaussians, view: View, harmonics: Float[Tensor, "num_gaussians bases 3"], degree: int
) -> Float[Tensor, "num_gaussians 3"]:
    """Colors of the Gaussians in one view: harmonics plus one half, clamped at zero."""
    position = torch.linalg.inv(view.viewmat)[:3, 3]
    bases = harmonic_bases(degree, functional.normalize(gaussians.means - position, dim=-1))
    return (torch.einsum("nk,nkc->nc", bases, harmonics[:, : bases.shape[1]]) + 0.5).clamp(min=0.0)


@dataclass(frozen=True)
class TileGrid:
    """For every 16x16 tile the Gaussians whose square of three standard deviations overlaps it, nearest first."""

    width: int
    height: int
    order: Int[Tensor, " num_visible"]
    lowest: Int[Tensor, "num_visible 2"]
    highest: Int[Tensor, "num_visible 2"]

    @staticmethod
    def of(splats: Splats, width: int, height: int) -> TileGrid:
        """Sorts the visible Gaussians by depth and finds their tiles."""
        order = torch.argsort(splats.depths, stable=True)
        order = order[splats.radii[order] > 0]
        centers, radii = splats.means2d[order].detach() / TILE, splats.radii[order, None] / TILE
        lowest, highest = torch.floor(centers - radii).int(), torch.ceil(centers + radii).int()
        return TileGrid(width, height, order, lowest, highest)

    def __iter__(self) -> Iterator[tuple[slice, slice, Int[Tensor, " num_in_tile"]]]:
        """Yields the rows, columns and Gaussians of each tile."""
        for row in range(math.ceil(self.height / TILE)):
            in_row = (self.lowest[:, 1] <= row) & (row < self.highest[:, 1])
            order, lowest, highest = self.order[in_row], self.lowest[in_row, 0], self.highest[in_row, 0]
            for column in range(math.ceil(self.width / TILE)):
                rows = slice(row * TILE, min((row + 1) * TILE, self.height))
                columns = slice(column * TILE, min((column + 1) * TILE, self.width))
                yield rows, columns, order[(lowest <= column) & (column < highest)]


def tile_weights(
    rows: slice,
    columns: slice,
    means2d: Float[Tensor, "num_in_tile 2"],
    conics: Float[Tensor, "num_in_tile 3"],
    opacities: Float[Tensor, " num_in_tile"],
) -> Float[Tensor, "rows columns num_in_tile"]:
    """Opacity times transmittance of each Gaussian, nearest first, at the pixel centers of a tile."""
    y = torch.arange(rows.start, rows.stop).to(means2d) + 0.5
    x = torch.arange(columns.start, columns.stop).to(means2d) + 0.5
    dx, dy = means2d[:, 0] - x[None, :, None], means2d[:, 1] - y[:, None, None]
    a, b, c = conics.unbind(-1)
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities * torch.exp(-sigma)).clamp(max=MAX_OPACITY)
    alpha = torch.where((sigma >= 0) & (alpha >= MIN_OPACITY), alpha, 0.0)
    after = torch.cumprod(1 - alpha, dim=-1)
    # A pixel is saturated when a Gaussian would leave less transmittance than this; that Gaussian is skipped too.
    alpha = torch.where(after > MIN_TRANSMITTANCE, alpha, 0.0)
    before = torch.cat((torch.ones_like(after[..., :1]), after[..., :-1]), dim=-1)
    return alpha * before


def split_by_tile(
    tiles: list[tuple[slice, slice, Tensor]],
    splats: Splats,
    opacities: Float[Tensor, " num_gaussians"],
    features: Float[Tensor, "num_gaussians channels"],
) -> list[tuple[Tensor, ...]]:
    """Returns the means2d, conics, opacities and features of the Gaussians of each tile."""
    members = torch.cat([members for _, _, members in tiles]) if tiles else splats.radii.new_zeros(0)
    sizes = [len(members) for _, _, members in tiles]
    # One gather for all tiles, because the gradient of each gather is as large as the scene.
    gathered = (tensor[members].split(sizes) for tensor in (splats.means2d, splats.conics, opacities, features))
    return list(zip(*gathered, strict=True))


def composite(
    splats: Splats,
    opacities: Float[Tensor, " num_gaussians"],
    features: Float[Tensor, "num_gaussians channels"],
    width: int,
    height: int,
    background: Float[Tensor, " channels"] | None = None,
) -> tuple[Float[Tensor, "height width channels"], Float[Tensor, "height width 1"]]:
    """Composites the features tile by tile. Returns the image and its alphas."""
    image = features.new_zeros(height, width, features.shape[1])
    alphas = features.new_zeros(height, width, 1)
    tiles = list(TileGrid.of(splats, width, height))
    for (rows, columns, _), tile in zip(tiles, split_by_tile(tiles, splats, opacities, features), strict=True):
        weights = tile_weights(rows, columns, *tile[:3])
        image[rows, columns] = weights @ tile[3]
        alphas[rows, columns] = weights.sum(-1, keepdim=True)
    if background is not None:
        image = image + (1 - alphas) * background
    return image, alphas


def rasterization(
    means: Float[Tensor, "num_gaussians 3"],
    quats: Float[Tensor, "num_gaussians 4"],
    scales: Float[Tensor, "num_gaussians 3"],
    opacities: Float[Tensor, " num_gaussians"],
    colors: Tensor,
    viewmats: Float[Tensor, "1 4 4"],
    Ks: Float[Tensor, "1 3 3"],
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
) -> tuple[Tensor, Tensor, Splats]:
    """The reference of `genlangsplat_ns.rasterization.rasterization`; the third result are the splats."""
    gaussians, view = Gaussians(means, quats, scales, opacities), View(viewmats[0], Ks[0], width, height)
    splats = project(gaussians, view, near_plane=near_plane, far_plane=far_plane, eps2d=eps2d)
    if rasterize_mode == "antialiased":
        opacities = opacities * splats.compensations
    layers, background = [], None if backgrounds is None else backgrounds[0]
    if "RGB" in render_mode:
        layers.append(colors if sh_degree is None else shade(gaussians, view, colors, sh_degree))
    elif background is not None:
        background = background[:0]
    if render_mode != "RGB":
        layers.append(splats.depths[:, None])
        background = None if background is None else torch.cat((background, background.new_zeros(1)))
    image, alphas = composite(splats, opacities, torch.cat(layers, -1), width, height, background)
    if render_mode.endswith("ED"):
        image = torch.cat((image[..., :-1], image[..., -1:] / alphas.clamp(min=1e-10)), -1)
    return image[None], alphas[None], splats
