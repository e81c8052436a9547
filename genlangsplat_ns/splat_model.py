"""Splatfacto on any device, with this project's rasterizer and checkpoints that can be resumed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.model_components import renderers
from nerfstudio.model_components.lib_bilagrid import BilateralGrid
from nerfstudio.models.splatfacto import RGB2SH, SplatfactoModel, SplatfactoModelConfig, num_sh_bases
from nerfstudio.utils.colors import get_color
from scipy.spatial import cKDTree
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.metrics import psnr
from genlangsplat_ns.rasterization import Gaussians, View, render, shade
from genlangsplat_ns.rasterization.densification import BudgetedStrategy
from genlangsplat_ns.rasterization.ssim import kept_similarity, structural_similarity
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.thinning import usable_seeds
from genlangsplat_ns.views.cameras import view_of_camera

LOGGER = logging.getLogger(__name__)

VIEWER_BACKGROUND = (0.1490, 0.1647, 0.2157)
"""The viewer's background color, used in renders if training used random background colors."""

INITIAL_OPACITY = 0.1

PER_VIEW = {"camera_optimizer.pose_adjustment": "optimized cameras", "bil_grids.grids": "color grids"}
"""Parameters with one entry per training view, and their names in messages."""

SEED_SHARE = 0.5
"""Maximum share of `max_gaussians` that seed points may take, so that densification has room where detail is missing;
`benchmarks/seed_share.py` compares shares."""


def entries_of_gaussians(entries: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's entries under the names of today, without those of the image metric.

    Raises:
        GenLangSplatError: There are no Gaussians.
    """
    # Checkpoints of early splatfacto versions have no prefix.
    names = {each.name: f"gauss_params.{each.name}" for each in fields(GaussianParameters)}
    state = {names.get(key, key): value for key, value in entries.items() if not key.startswith("lpips.")}
    if "gauss_params.means" not in state:
        raise GenLangSplatError(
            f"The checkpoint holds no Gaussians (its first entries are {sorted(state)[:4]}). Give a checkpoint of "
            "gen-langsplat or splatfacto."
        )
    return state


@dataclass
class SplatModelConfig(SplatfactoModelConfig):
    """Splatfacto's settings and a limit on the number of Gaussians."""

    _target: type = field(default_factory=lambda: SplatModel)
    """target class to instantiate"""
    max_gaussians: int | None = None
    """Densification stops adding Gaussians at this number; None sets no limit."""


class SplatModel(SplatfactoModel):
    """SplatfactoModel on any device. For the same data it differs from splatfacto as follows; see docs/splatfacto.md.

    - Rendering uses this project's rasterizer, on the device of the model.
    - Seed points must be finite and distinct, and leave half of `max_gaussians` for densification; others are thinned
      evenly in space. Their sizes are splatfacto's: the mean distance of three neighbors.
    - Without seed colors, colors are random; splatfacto's random parameters are colors from 0.5 to 0.8.
    - At degree 0, black and white start at logits of 7 instead of 23, where they would not learn.
    - Densification stays below `max_gaussians`.
    - A resumed run trains on. splatfacto replaces the parameters, and its optimizers update the old ones.
    - Optimized poses also apply outside training, to views with a `cam_idx`.
    - LPIPS is not downloaded, and held-out views have no metrics after color correction (`cc_psnr` and so on).
    """

    config: SplatModelConfig

    def populate_modules(self) -> None:
        """Creates the Gaussians, the camera optimizer, the metrics and the densification strategy."""
        self.gauss_params = nn.ParameterDict(self._initial_gaussians())
        self.camera_optimizer = self.config.camera_optimizer.setup(num_cameras=self.num_train_data, device="cpu")
        if self.config.use_bilateral_grid:
            columns, rows, depth = self.config.grid_shape
            self.bil_grids = BilateralGrid(num=self.num_train_data, grid_X=columns, grid_Y=rows, grid_W=depth)
        self.psnr = psnr  # type: ignore[assignment]  # nerfstudio only calls it.
        self.ssim = _similarity_to_truth
        self.step = 0
        self.crop_box = None
        self._truth: tuple[Tensor, int, Tensor] | None = None
        if self.config.background_color == "random":
            self.background_color = torch.tensor(VIEWER_BACKGROUND)
        else:
            self.background_color = get_color(self.config.background_color)
        self.strategy = BudgetedStrategy(
            prune_opa=self.config.cull_alpha_thresh,
            grow_grad2d=self.config.densify_grad_thresh,
            grow_scale3d=self.config.densify_size_thresh,
            grow_scale2d=self.config.split_screen_size,
            prune_scale3d=self.config.cull_scale_thresh,
            prune_scale2d=self.config.cull_screen_size,
            refine_scale2d_stop_iter=self.config.stop_screen_size_at,
            refine_start_iter=self.config.warmup_length,
            refine_stop_iter=self.config.stop_split_at,
            refine_every=self.config.refine_every,
            reset_every=self.config.reset_alpha_every * self.config.refine_every,
            pause_refine_after_reset=self.num_train_data + self.config.refine_every,
            absgrad=self.config.use_absgrad,
            max_gaussians=self.config.max_gaussians,
        )
        self.strategy_state = self.strategy.initialize_state(scene_scale=1.0)

    def _initial_gaussians(self) -> dict[str, nn.Parameter]:
        """Returns given Gaussians, Gaussians at the seed points, or Gaussians at random positions in a cube."""
        given: GaussianParameters | None = self.kwargs.get("gaussians")
        if given is not None:
            return {name: nn.Parameter(value) for name, value in given.tensors().items()}
        seeds = None if self.config.random_init else self.seed_points
        if seeds is not None:
            ceiling = self.config.max_gaussians
            limit = None if ceiling is None else max(4, int(SEED_SHARE * ceiling))
            kept = torch.from_numpy(usable_seeds(seeds[0].float().numpy(), limit))
            means = seeds[0].float()[kept]
        else:
            # The caller of `setup` may know where the scene is; splatfacto draws from a cube around the origin.
            count, draw = self.config.num_random, self.kwargs.get("random_points")
            means = (torch.rand(count, 3) - 0.5) * self.config.random_scale if draw is None else draw(count)
        count = len(means)
        if count < 4:
            raise GenLangSplatError(
                f"Found {count} distinct seed points, expected at least 4. Add points to the data, or start from "
                "random points with --pipeline.model.random-init True."
            )
        distances, _ = cKDTree(means.numpy()).query(means.numpy(), k=4)
        spacing = torch.from_numpy(distances[:, 1:]).float().mean(dim=-1, keepdim=True).clamp_min(1e-7)
        colors = torch.rand(count, 3)
        if seeds is not None and len(seeds[1]) == len(seeds[0]):
            colors = seeds[1][kept].float() / 255
        features_dc = RGB2SH(colors) if self.config.sh_degree > 0 else torch.logit(colors, eps=1e-3)
        num_rest = num_sh_bases(self.config.sh_degree) - 1
        values = {
            "means": means.clone(),
            "scales": spacing.log().repeat(1, 3),
            "quats": nn.functional.normalize(torch.randn(count, 4), dim=-1),
            "features_dc": features_dc,
            "features_rest": torch.zeros(count, num_rest, 3),
            "opacities": torch.logit(torch.full((count, 1), INITIAL_OPACITY)),
        }
        return {name: nn.Parameter(value) for name, value in values.items()}

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> Any:
        """Loads a checkpoint of this method or of stock splatfacto.

        The parameter objects are kept and only resized. nerfstudio creates the optimizers before it loads a checkpoint,
        so the optimizers still update these parameters after a resume.

        Raises:
            GenLangSplatError: The checkpoint has no Gaussians, or a tensor has another shape than the config expects.
        """
        state = entries_of_gaussians(dict)
        count = len(state["gauss_params.means"])
        for name, parameter in self.gauss_params.items():
            parameter.data = parameter.data.new_zeros(count, *parameter.shape[1:])
            stored = state.setdefault(f"gauss_params.{name}", torch.zeros_like(parameter.data))
            if stored.shape != parameter.shape:
                raise GenLangSplatError(
                    f"The checkpoint's {name} have the shape {tuple(stored.shape)}, but the config expects "
                    f"{tuple(parameter.shape)}. Load it with the config.yml it was trained with."
                )
        self._fit_views(state)
        return nn.Module.load_state_dict(self, state, **kwargs)

    def _fit_views(self, state: dict[str, Any]) -> None:
        """Gives the parameters of training views the checkpoint's number of views if the data are not there.

        Raises:
            GenLangSplatError: The data have another number of training views than the checkpoint.
        """
        owned = {name: value for name, value in self.named_parameters() if name in PER_VIEW}
        for name, parameter in owned.items():
            stored = state.get(name)
            if stored is None or len(stored) == len(parameter):
                continue
            if self.num_train_data > 0:
                raise GenLangSplatError(
                    f"The checkpoint has the {PER_VIEW[name]} of {len(stored)} training views, but the data have "
                    f"{len(parameter)}. Give the data and the split that it was trained on."
                )
            parameter.data = parameter.data.new_zeros(stored.shape)

    def geometry(self, keep: Bool[Tensor, " num_gaussians"] | None = None) -> Gaussians:
        """Returns all Gaussians, or those that the mask `keep` selects, after activation."""
        means, quats, scales, opacities = (
            values if keep is None else values[keep] for values in (self.means, self.quats, self.scales, self.opacities)
        )
        return Gaussians(means, quats, scales.exp(), torch.sigmoid(opacities).squeeze(-1))

    def colors(self, keep: Tensor | None = None) -> tuple[Tensor, int | None]:
        """Returns the color values for `splat` (colors or harmonics) and the degree of the harmonics."""
        constant, rest = (values if keep is None else values[keep] for values in (self.features_dc, self.features_rest))
        if self.config.sh_degree == 0:
            return torch.sigmoid(constant), None
        return torch.cat([constant[:, None], rest], dim=1), self.active_sh_degree()

    def active_sh_degree(self) -> int:
        """Returns the degree of the harmonics at the current training step."""
        return min(self.step // self.config.sh_degree_interval, self.config.sh_degree)

    def view(self, camera: Cameras, downscale: int = 1) -> View:
        """Converts one camera to a view; a training camera (with a `cam_idx`) gets its optimized pose."""
        return view_of_camera(camera, self.camera_optimizer.apply_to_camera(camera), downscale)

    def splat(
        self, gaussians: Gaussians, values: Tensor, view: View, **options: Any
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Renders values of the Gaussians; see `rasterization.render` for the options."""
        return render(gaussians, view, values, rasterize_mode=self.config.rasterize_mode, **options)

    @torch.no_grad()
    def splats(self, keep: Bool[Tensor, " num_gaussians"]) -> GaussianParameters:
        """Returns the selected Gaussians in the convention of PLY files, on the CPU.

        At degree 0, Splatfacto stores the logits of colors, but PLY files always store the constant harmonic.
        """
        kept = {
            item.name: self.gauss_params[item.name].detach().cpu()[keep.cpu()].float()
            for item in fields(GaussianParameters)
        }
        gaussians = GaussianParameters(**kept)
        if self.config.sh_degree == 0:
            gaussians = replace(gaussians, features_dc=RGB2SH(torch.sigmoid(gaussians.features_dc)))
        return gaussians

    def drawable(self) -> Bool[Tensor, " num_gaussians"]:
        """Returns the mask of Gaussians that are finite and have a rotation; others can be neither drawn nor saved."""
        usable = self.quats.detach().any(dim=1)
        for item in fields(GaussianParameters):
            usable &= self.gauss_params[item.name].detach().flatten(1).isfinite().all(dim=1)
        return usable.cpu()

    def cropped(self) -> Tensor | None:
        """Returns the mask of the Gaussians inside the viewer's crop box; None if nothing is cropped."""
        if self.crop_box is None or self.training:
            return None
        return self.crop_box.within(self.means).reshape(-1)

    def _get_background_color(self) -> Tensor:
        """Returns the background color; nerfstudio's commands and queries may replace that of the settings."""
        override = renderers.BACKGROUND_COLOR_OVERRIDE
        return super()._get_background_color() if override is None else override.to(self.device)

    def get_outputs(self, camera: Cameras, extra_channels: Sequence[Tensor] = ()) -> dict[str, Any]:
        """Renders color, opacity and (outside training) depth of one camera.

        Outside training, `extra_channels` are further values of all Gaussians, `(num_gaussians, channels)` each. They
        are rendered in the same pass over black and returned together as the output `extra_channels`.
        """
        view = self.view(camera, self._get_downscale_factor())
        self.last_size = (view.height, view.width)
        keep = self.cropped()
        if keep is not None and not bool(keep.any()):
            outputs: dict[str, Any] = self.get_empty_outputs(view.width, view.height, self._get_background_color())
            if extra_channels:
                width = sum(values.shape[1] for values in extra_channels)
                outputs["extra_channels"] = outputs["rgb"].new_zeros(view.height, view.width, width)
            return outputs
        with_depth = self.config.output_depth_during_training or not self.training
        background = self._get_background_color()
        features, degree = self.colors(keep)
        gaussians = self.geometry(keep)
        if extra_channels:
            if degree is not None:
                features, degree = shade(gaussians, view, features, sh_degree=degree), None
            features = torch.cat(
                [features, *(values if keep is None else values[keep] for values in extra_channels)], dim=1
            )
        rendered, alpha, self.info = self.splat(
            gaussians,
            features,
            view,
            render_mode="RGB+ED" if with_depth else "RGB",
            sh_degree=degree,
            absgrad=self.strategy.absgrad,
        )
        if self.training:
            self.strategy.step_pre_backward(
                self.gauss_params, self.optimizers, self.strategy_state, self.step, self.info
            )
        color = rendered[0, ..., :3]
        rgb = color + (1 - alpha[0]) * background
        if degree is not None or not self.training:
            # Colors without harmonics are sigmoids, which exceed the bounds only by rounding; the loss tolerates that.
            rgb = rgb.clamp(0.0, 1.0)
        camera_index = (camera.metadata or {}).get("cam_idx")
        if self.config.use_bilateral_grid and self.training and camera_index is not None:
            rgb = self._apply_bilateral_grid(rgb[None], camera_index, view.height, view.width)[0]
        depth = None
        if with_depth:
            depth = rendered[0, ..., -1:]
            depth = torch.where(alpha[0] > 0, depth, depth.detach().max())
        if not self.training:
            background = background.expand(view.height, view.width, 3)
        outputs = {"rgb": rgb, "depth": depth, "accumulation": alpha[0], "background": background}
        if extra_channels:
            outputs["extra_channels"] = rendered[0, ..., 3:-1]
        return outputs

    def get_gt_img(self, image: Tensor) -> Tensor:
        """Returns the photograph at the current render size; cached for the loss and the metrics of a step."""
        factor = self._get_downscale_factor()
        if self._truth is None or self._truth[0] is not image or self._truth[1] != factor:
            self._truth = image, factor, super().get_gt_img(image)
        return self._truth[2]

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """Computes splatfacto's metrics of a training step; masked pixels do not count."""
        metrics = super().get_metrics_dict(outputs, batch)
        kept = self._kept(batch)
        if kept is not None and bool(kept.any()):
            truth = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
            metrics["psnr"] = psnr(outputs["rgb"], truth, kept)
        return metrics

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Computes PSNR and SSIM of a view, and LPIPS if its weights are on this machine.

        Masked pixels do not count; LPIPS compares images that are black there.
        """
        truth = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
        rendered, kept = outputs["rgb"], self._kept(batch)
        images = [image.permute(2, 0, 1)[None] for image in (truth, rendered)]
        if kept is None or not bool(kept.any()):
            metrics = {"psnr": float(self.psnr(*images)), "ssim": float(self.ssim(*images))}
        else:
            similarity = kept_similarity(images[0], images[1], kept)
            metrics = {"psnr": float(psnr(truth, rendered, kept)), "ssim": float(similarity)}
            images = [image * kept for image in images]
        lpips = _load_lpips(str(self.device))
        if lpips is not None:
            metrics["lpips"] = float(lpips(*images))
        return metrics, {"img": torch.cat([truth, rendered], dim=1)}

    def _kept(self, batch: dict[str, Any]) -> Bool[Tensor, "height width"] | None:
        """Returns the pixels that count at the current render size; None for all."""
        if "mask" not in batch:
            return None
        return self._downscale_if_required(batch["mask"])[..., 0].to(self.device) > 0.999


def _similarity_to_truth(truth: Tensor, rendered: Tensor) -> Tensor:
    """Computes the structural similarity with the arguments in splatfacto's order."""
    return structural_similarity(rendered, truth)


@cache
def _load_lpips(device: str) -> Any:
    """Returns the LPIPS metric, kept outside the module tree; None (logged once) if its weights are missing."""
    weights = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    if not weights.is_file():
        LOGGER.info("LPIPS is skipped: its AlexNet weights are not at %s, and nothing is downloaded.", weights)
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(normalize=True).to(device)
