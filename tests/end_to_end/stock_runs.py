"""Runs that start from existing Gaussians, and runs in the file format of stock splatfacto, which needs CUDA."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nerfstudio.configs.method_configs import method_configs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.models.splatfacto import RGB2SH

from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from tests.end_to_end.conftest import make_config


def config_from(source: Path, data: Path, output: Path, frame: str = "auto", **model: Any) -> Any:
    """A run that starts from the Gaussians of a source."""
    config = make_config(data, output, **model)
    config.pipeline.init_from, config.pipeline.init_frame = source, frame
    return config


def trained_gaussians(run: LanguageScene, degree: int = 0) -> GaussianParameters:
    """The Gaussians of a run without harmonics, with their colors converted to harmonics of a degree."""
    values = {name: value.detach().clone() for name, value in run.model.gauss_params.items()}
    values.pop("latents")
    if degree > 0:
        rest = torch.randn(len(values["means"]), (degree + 1) ** 2 - 1, 3, generator=torch.Generator().manual_seed(0))
        values |= {"features_dc": RGB2SH(torch.sigmoid(values["features_dc"])), "features_rest": 0.02 * rest}
    return GaussianParameters(**values)


def write_stock_run(
    folder: Path,
    scene: Path,
    gaussians: GaussianParameters,
    camera_mode: str = "off",
    model: Any = None,
    **dataparser: Any,
) -> Path:
    """Writes config, frame and checkpoint of a splatfacto run with the given Gaussians.

    Args:
        folder: The run's folder.
        scene: The data of the run.
        gaussians: The trained Gaussians.
        camera_mode: Mode of the camera optimizer; unless it is off, the training poses are slightly adjusted.
        model: Other settings of the model.
        dataparser: Other settings of the dataparser.

    Returns:
        The config.yml.
    """
    config = deepcopy(method_configs["splatfacto"])
    config.data = config.pipeline.datamanager.data = scene
    parser = config.pipeline.datamanager.dataparser = NerfstudioDataParserConfig(load_3D_points=True, **dataparser)
    config.pipeline.model.sh_degree = gaussians.sh_degree
    config.pipeline.model.camera_optimizer.mode = camera_mode
    for name, value in (model or {}).items():
        setattr(config.pipeline.model, name, value)
    (folder / "nerfstudio_models").mkdir(parents=True)
    (folder / "config.yml").write_text(yaml.dump(config))
    # Stock splatfacto reads points with open3d, which needs system libraries.
    outputs = replace(parser, data=scene, load_3D_points=False).setup().get_dataparser_outputs("train")
    outputs.save_dataparser_transform(folder / "dataparser_transforms.json")

    config.pipeline.model.random_init, config.pipeline.model.num_random = True, len(gaussians)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        metric = "torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity"
        patch.setattr(metric, lambda normalize: torch.nn.Linear(2, 2))
        stock = config.pipeline.model.setup(
            scene_box=outputs.scene_box, num_train_data=len(outputs.image_filenames), metadata={}, device="cpu"
        )
        if camera_mode != "off":
            stock.camera_optimizer.pose_adjustment.data.normal_(std=0.02)
    for name, value in gaussians.tensors().items():
        stock.gauss_params[name].data = value.clone()
    optimizers = Optimizers(config.optimizers.copy(), stock.get_param_groups())
    # After a step, the learning rates of stock splatfacto are numpy scalars.
    optimizers.scheduler_step_all(0)
    torch.save(
        {
            "step": 29_999,
            "pipeline": {f"_model.{name}": value for name, value in stock.state_dict().items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.optimizers.items()},
            "schedulers": {name: scheduler.state_dict() for name, scheduler in optimizers.schedulers.items()},
            "scalers": {},
        },
        folder / "nerfstudio_models" / "step-000029999.ckpt",
    )
    return folder / "config.yml"
