"""In which coordinate frame Gaussians lie, judged by the photographs of the scene they shall belong to."""

from __future__ import annotations

import torch
from nerfstudio.models.splatfacto import SH2RGB, resize_image

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.rasterization import Gaussians, render
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.views.cameras import view_of_camera

MIN_AGREEMENT = 0.4
"""Gaussians that explain less of the photographs lie in another frame, or show another scene.

Measured on the fox: 0.92 in the right frame, 0.7 where 5 % too large, below 0 where a quarter too large or turned by 15
degrees.
"""

NUM_VIEWS = 5
VIEW_SIDE = 200
"""Pixels of the longer side, roughly; a frame that is wrong is wrong at any size."""


@torch.no_grad()
def agreement(parameters: GaussianParameters, views: GenLangSplatDataManager) -> float:
    """How much of the photographs' variation Gaussians explain: 1 for perfect pictures, 0 for a plain color.

    How many Gaussians the cameras see would not do: in a frame that is too small all of them gather before every
    camera. A few training views in small, in the constant colors alone, tell a right frame from a wrong one.

    Args:
        parameters: The Gaussians, in the frame of nerfstudio's poses.
        views: The scene; its training views are read into the cache, where training wants them anyway.

    Returns:
        The median over the views looked at; below 0 when the pictures are worse than a plain color.
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
        plain = (photograph - photograph.mean(dim=(0, 1))).square()
        rest = (photograph - rendered[0] / alpha[0].clamp_min(1e-6)).square()
        # Where nothing is drawn, whatever lies behind, nothing is explained.
        shares.append(float((alpha[0] * (plain - rest)).sum() / plain.sum().clamp_min(1e-6)))
    return float(torch.tensor(shares).median())
