"""Measures how well Gaussians explain the photographs of a scene, to determine their coordinate frame."""

from __future__ import annotations

import torch
from nerfstudio.models.splatfacto import SH2RGB, resize_image

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.rasterization import Gaussians, render
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.views.cameras import view_of_camera

MIN_PHOTOMETRIC_R2 = 0.4
"""Gaussians with a lower value are in another frame, or show another scene.

Measured on the fox: 0.92 in the correct frame, 0.7 if scaled by 1.05, and below 0 if scaled by 1.25 or rotated by 15
degrees.
"""

NUM_VIEWS = 5
"""Number of training views that are compared."""

VIEW_SIDE = 200
"""Approximate number of pixels on the longer side of the compared views."""


@torch.no_grad()
def photometric_r2(parameters: GaussianParameters, views: GenLangSplatDataManager) -> float:
    """Computes the share of the photographs' variance that Gaussians explain: 1 for exact renders, 0 for a mean color.

    The number of visible Gaussians would not be a suitable measure: if the scale is too small, all of them are in front
    of every camera. A few small renders of the training views with the constant colors suffice; the views are read into
    the cache, which training needs anyway.

    Returns:
        The median over `NUM_VIEWS` training views; below 0 if the renders are worse than the mean color.
    """
    opacities = torch.sigmoid(parameters.opacities).squeeze(-1)
    gaussians = Gaussians(parameters.means, parameters.quats, parameters.scales.exp(), opacities).to(views.device)
    constant = parameters.features_dc.to(views.device)
    colors = torch.sigmoid(constant) if parameters.sh_degree == 0 else SH2RGB(constant).clamp_min(0.0)
    shares = []
    total = len(views.train_dataset)
    for index in torch.linspace(0, total - 1, min(NUM_VIEWS, total)).round().int().tolist():
        camera = views.camera("train", index)
        factor = max(1, round(max(int(camera.width), int(camera.height)) / VIEW_SIDE))
        view = view_of_camera(camera, downscale=factor)
        # Most Gaussians are smaller than a pixel at this size.
        rendered, alpha, _ = render(gaussians, view, colors, rasterize_mode="antialiased")
        photograph = resize_image(views.image("train", index), factor).to(views.device) / 255
        variance = (photograph - photograph.mean(dim=(0, 1))).square()
        residual = (photograph - rendered[0] / alpha[0].clamp_min(1e-6)).square()
        # Weighting by opacity makes pixels without Gaussians explain nothing, independent of the background.
        shares.append(float((alpha[0] * (variance - residual)).sum() / variance.sum().clamp_min(1e-6)))
    return float(torch.tensor(shares).median())
