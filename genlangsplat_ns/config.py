"""The two methods: `gen-langsplat` and `gen-langsplat-lite`."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.plugins.types import MethodSpecification

from genlangsplat_ns.datamanager import GenLangSplatDataManagerConfig
from genlangsplat_ns.model import GenLangSplatModelConfig
from genlangsplat_ns.pipeline import GenLangSplatPipelineConfig
from genlangsplat_ns.scene_io.checkpoints import allow_nerfstudio_checkpoints
from genlangsplat_ns.scene_io.stored_paths import allow_paths_of_other_systems
from genlangsplat_ns.schedulers import FloatExponentialDecayConfig, FusedAdamOptimizerConfig
from genlangsplat_ns.trainer import GenLangSplatTrainerConfig

# nerfstudio imports this module in every command. The import has two side effects: torch may load the numpy scalars in
# checkpoints of stock splatfacto, and YAML files may hold paths of another operating system.
allow_nerfstudio_checkpoints()
allow_paths_of_other_systems()


def _optimizers(rgb_steps: int) -> dict[str, Any]:
    """Returns splatfacto's learning rates for an RGB phase of this length, and LangSplat's for the latents."""

    def group(lr: float, final: float | None = None, warmup: int = 0) -> dict[str, Any]:
        scheduler = None
        if final is not None:
            scheduler = FloatExponentialDecayConfig(
                lr_final=final, max_steps=rgb_steps, warmup_steps=warmup, lr_pre_warmup=0.0
            )
        return {"optimizer": FusedAdamOptimizerConfig(lr=lr, eps=1e-15), "scheduler": scheduler}

    return {
        "means": group(1.6e-4, final=1.6e-6),
        "features_dc": group(0.0025),
        "features_rest": group(0.0025 / 20),
        "opacities": group(0.05),
        "scales": group(0.005),
        "quats": group(0.001),
        "latents": group(0.0025),
        "camera_opt": group(1e-4, final=5e-7, warmup=rgb_steps // 30),
        "bilateral_grid": group(2e-3, final=1e-4, warmup=rgb_steps // 30),
    }


def _method(name: str, rgb_steps: int, data: dict[str, Any], model: dict[str, Any], viewer: ViewerConfig) -> Any:
    model_config = GenLangSplatModelConfig(**model)
    return GenLangSplatTrainerConfig(
        method_name=name,
        steps_per_eval_image=100,
        steps_per_eval_batch=0,
        steps_per_save=2000,
        steps_per_eval_all_images=1000,
        max_num_iterations=rgb_steps + model_config.num_language_steps,
        mixed_precision=False,
        machine=MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu"),
        pipeline=GenLangSplatPipelineConfig(
            datamanager=GenLangSplatDataManagerConfig(
                dataparser=NerfstudioDataParserConfig(load_3D_points=True), cache_images_type="uint8", **data
            ),
            model=model_config,
        ),
        optimizers=_optimizers(rgb_steps),
        viewer=viewer,
        vis="viewer",
    )


LITE_STEPS = 5_000

gen_langsplat = MethodSpecification(
    config=_method(
        "gen-langsplat",
        rgb_steps=30_000,
        data={},
        model={},
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
    ),
    description="Splats with language queries: splatfacto, then a language latent per Gaussian (Gen-LangSplat).",
)
"""Splatfacto's schedule, then the language phase."""

gen_langsplat_lite = MethodSpecification(
    config=_method(
        "gen-langsplat-lite",
        rgb_steps=LITE_STEPS,
        data={"max_image_side": 480},
        model={
            "max_gaussians": 150_000,
            "sh_degree": 0,
            "num_downscales": 1,
            "resolution_schedule": 1_000,
            "stop_split_at": 3_500,
            "stop_screen_size_at": 2_000,
        },
        # Runs without a GPU are often unattended, so the command exits at the end; ns-viewer opens the result.
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, quit_on_train_completion=True),
    ),
    description="Gen-LangSplat for laptops and machines without a GPU: small images, a few thousand steps.",
)
"""The same method with a schedule for two CPU cores."""
