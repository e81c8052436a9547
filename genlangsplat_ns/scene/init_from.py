"""Initializes a run with existing Gaussians, so that it only has a language phase."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.model import GenLangSplatModelConfig
from genlangsplat_ns.scene.placement import MIN_PHOTOMETRIC_R2, photometric_r2
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint, read_splat_checkpoint
from genlangsplat_ns.scene_io.frames import SceneFrame, half_turn, move_gaussians
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.run_config import FRAME_SETTINGS, SPLIT_SETTINGS, RunConfig, read_run_config
from genlangsplat_ns.scene_io.sog import META, is_sog_meta
from genlangsplat_ns.scene_io.splat_files import SplatFormat, read_splats

LOGGER = logging.getLogger(__name__)

EXPECTED = (
    "Expected the config.yml, the folder or a step-*.ckpt of a run of splatfacto or gen-langsplat, or a file of "
    "Gaussian splats: PLY, compressed PLY, SPZ, SOG, .splat or .ksplat."
)

RUN_ENDINGS = (".ckpt", ".yml", ".yaml")
"""Endings of files of a run; other files are files of splats."""

MAX_DISTANCE = 1e-4
"""Two frames are equal if corresponding points differ by less than this share of the scene's radius."""


@dataclass(frozen=True)
class GeometrySource:
    """Gaussians read from a file, and the metadata of their run."""

    path: Path
    is_checkpoint: bool
    """Whether the file is a checkpoint, not a file of splats."""
    gaussians: GaussianParameters
    """The Gaussians in the coordinate frame of the file."""
    pose_adjustment: Float32[Tensor, "num_cameras 6"] | None = None
    """Pose corrections of the training views from the camera optimizer."""
    run: RunConfig | None = None
    """The config of the run, if it is stored with the checkpoint."""
    frame: SceneFrame | None = None
    """The coordinate frame of the run, if it is stored with the checkpoint."""
    offset: Float64[Tensor, " 3"] = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    """What to add to the positions of a file of splats in the frame of the data."""
    antialiased: bool = False
    """Whether a file of splats says that they were trained with antialiasing."""
    may_be_turned: bool = False
    """Whether programs disagree by half a turn around x about the frame of such files, as of SPZ."""

    def take_settings(self, model: GenLangSplatModelConfig) -> None:
        """Makes `model` adopt the settings of the Gaussians' training, and start with the language phase.

        Raises:
            GenLangSplatError: The settings ask for a later language phase.
        """
        if model.language_start_step not in (None, 0):
            raise GenLangSplatError(
                f"Found --pipeline.model.language-start-step {model.language_start_step} with --pipeline.init-from, "
                "which starts with the language phase. Omit one of the two."
            )
        model.language_start_step = 0
        model.sh_degree = self.gaussians.sh_degree
        stored = {} if self.run is None else self.run.model
        model.rasterize_mode = stored.get("rasterize_mode", model.rasterize_mode)
        model.background_color = stored.get("background_color", model.background_color)
        if self.antialiased:
            model.rasterize_mode = "antialiased"
            LOGGER.info(
                "By %s, its Gaussians were trained with antialiasing: --pipeline.model.rasterize-mode antialiased.",
                self.path,
            )
        if self.pose_adjustment is None:
            return
        mode = "off" if self.run is None else self.run.camera_mode
        if mode != "off":
            model.camera_optimizer.mode = mode
        elif model.camera_optimizer.mode == "off":
            model.camera_optimizer.mode = "SO3xR3"
            LOGGER.warning(
                "%s has optimized cameras but no config.yml with the mode of the camera optimizer, so SO3xR3 is "
                "assumed. If the mode was SE3, give --pipeline.model.camera-optimizer.mode SE3.",
                self.path,
            )

    def place(self, views: GenLangSplatDataManager, frame: Literal["auto", "nerfstudio", "data"]) -> GaussianParameters:
        """Returns the Gaussians in the coordinate frame of a scene.

        A checkpoint is in the frame of its run, which must be the frame of the scene. A file of splats does not name
        its frame: files of ns-export are in nerfstudio's frame, and files of Inria's program are in the frame of the
        poses before nerfstudio oriented, centered and scaled them. The frame auto compares renders with the
        photographs. They also tell whether an SPZ file is turned as the documentation of that format says.

        Raises:
            GenLangSplatError: The frames or the training views do not match.
        """
        here = views.frame
        if self.is_checkpoint:
            if frame == "data":
                raise GenLangSplatError(
                    f"{self.path} is a checkpoint, whose Gaussians are in the frame of its run; --pipeline.init-frame "
                    "data is for files of splats. Omit the option."
                )
            self._check_views(views)
            if self.frame is not None:
                self._check_frame(self.frame, views)
                return self.gaussians
        candidates = {"nerfstudio": self.gaussians}
        if not self.is_checkpoint and (self.offset.any() or not here.is_identity):
            candidates["data"] = move_gaussians(self.gaussians, here.relative_to(self.offset))
        if self.may_be_turned:
            turned = half_turn(self.gaussians)
            candidates["nerfstudio, turned"] = turned
            if "data" in candidates:
                candidates["data, turned"] = move_gaussians(turned, here)
        if frame in candidates:
            candidates = {name: found for name, found in candidates.items() if name.split(",")[0] == frame}
        scores = {name: photometric_r2(gaussians, views) for name, gaussians in candidates.items()}
        chosen = max(scores, key=lambda name: scores[name])
        shares = " and ".join(f"{max(score, 0.0):.0%} in the frame {name}" for name, score in scores.items())
        finding = f"The Gaussians of {self.path} explain this share of the photographs' variance: {shares}"
        if scores[chosen] >= MIN_PHOTOMETRIC_R2:
            LOGGER.info("%s.", finding)
        elif frame == "auto":
            raise GenLangSplatError(
                f"{finding}; expected at least {MIN_PHOTOMETRIC_R2:.0%}. They show another scene, or are in another "
                f"frame. {self._other_frame_advice()}"
            )
        else:
            LOGGER.warning("%s, but at least %.0f%% is expected.", finding, 100 * MIN_PHOTOMETRIC_R2)
            # No picture tells that the file is turned.
            chosen = next(iter(candidates))
        return candidates[chosen]

    def _other_frame_advice(self) -> str:
        if self.run is not None:
            return f"Append the dataparser of their run to the ns-train command: {self.run.dataparser_words()}"
        return (
            "If they come from a run of nerfstudio, give its config.yml instead, or append the dataparser of that run "
            "to the ns-train command, for example: nerfstudio-data --orientation-method none --center-method none "
            "--auto-scale-poses False. If you know the frame, give it with --pipeline.init-frame nerfstudio, or data "
            "for the frame of the original poses."
        )

    def _check_views(self, views: GenLangSplatDataManager) -> None:
        """Checks that the adjusted cameras belong to the scene, and warns if the held-out views differ."""
        differs = self._split_differs(views)
        advice = "" if self.run is None else f" Append this to the command: {self.run.dataparser_words()}"
        count = len(views.train_dataset)
        if self.pose_adjustment is not None and (differs or len(self.pose_adjustment) != count):
            raise GenLangSplatError(
                f"{self.path} has optimized cameras of {len(self.pose_adjustment)} training views, and this run has "
                f"{count} training views; they must be the same views.{advice or ' Use the same split as that run.'}"
            )
        if differs:
            LOGGER.warning(
                "The views held out here differ from those held out when the Gaussians were trained, so metrics of "
                "held-out views are not reliable.%s",
                advice,
            )

    def _split_differs(self, views: GenLangSplatDataManager) -> bool:
        """Returns whether the run of a checkpoint trained on other views; lists in the data may override settings."""
        config = views.config.dataparser
        if self.run is None or not self.run.differs(config, SPLIT_SETTINGS):
            return False
        if self.run.differs(config, ()):
            return True
        split = {name: self.run.dataparser[name] for name in SPLIT_SETTINGS if name in self.run.dataparser}
        outputs = replace(config, **split).setup().get_dataparser_outputs("train")
        return bool(outputs.image_filenames != views.train_dataset.image_filenames)

    def _check_frame(self, frame: SceneFrame, views: GenLangSplatDataManager) -> None:
        """Checks that the scene has the frame of the run of a checkpoint."""
        distance = views.frame.distance(frame, views.train_dataset.cameras.camera_to_worlds[:, :3, 3])
        if distance < MAX_DISTANCE:
            return
        if self.run is None:
            advice = (
                "The config.yml with its dataparser is missing. Append the settings of that dataparser to the ns-train "
                "command."
            )
        elif self.run.differs(views.config.dataparser, FRAME_SETTINGS):
            advice = f"Append its dataparser to the ns-train command: {self.run.dataparser_words()}"
        else:
            advice = (
                "Both have the same dataparser, so the data must differ: that run was trained on "
                f"{self.run.data}. Give that folder with --data."
            )
        raise GenLangSplatError(
            f"The Gaussians of {self.path} are in another frame: their run has the scale {frame.scale:.6g}, this run "
            f"{views.frame.scale:.6g}, and points of the scene differ by up to {distance:.3g} times its radius. "
            f"{advice}"
        )


def open_geometry(path: Path) -> GeometrySource:
    """Reads Gaussians from a run, a checkpoint or a file of splats.

    The path is a config.yml, the folder of a run or of its checkpoints, a step-*.ckpt, or a file of splats of any
    format. Latents of a gen-langsplat run are not read: the new run lifts its own latents with its own autoencoder.

    Raises:
        GenLangSplatError: The path does not exist, is nothing of that kind, or cannot be read.
    """
    if not path.exists():
        raise GenLangSplatError(f"There is no {path} to start from. {EXPECTED}")
    if is_sog_meta(path / META) or (path.is_file() and path.suffix.lower() not in RUN_ENDINGS):
        read = read_splats(path)
        return GeometrySource(
            *(path, False, _with_harmonics(read.gaussians)),
            offset=read.offset,
            antialiased=read.antialiased,
            may_be_turned=read.format is SplatFormat.SPZ,
        )
    checkpoint, config = _find_checkpoint(path)
    run = read_run_config(config) if config.is_file() else None
    stored = read_splat_checkpoint(checkpoint, "an unknown method" if run is None else run.method)
    transforms = config.with_name("dataparser_transforms.json")
    frame = SceneFrame.read(transforms) if transforms.is_file() else None
    return GeometrySource(checkpoint, True, stored.gaussians, stored.pose_adjustment, run, frame)


def _find_checkpoint(path: Path) -> tuple[Path, Path]:
    """Returns the checkpoint for a path, and the path at which the config.yml of its run is expected."""
    path = path.absolute()
    if path.suffix == ".ckpt":
        # nerfstudio stores checkpoints in a subfolder of the run by default, or next to its config.
        sibling = path.parent / "config.yml"
        return path, sibling if sibling.is_file() else path.parent.parent / "config.yml"
    if path.suffix in (".yml", ".yaml") or (path / "config.yml").is_file():
        config = path if path.is_file() else path / "config.yml"
        folder = read_run_config(config).checkpoints
    else:
        folder = path / "nerfstudio_models" if (path / "nerfstudio_models").is_dir() else path
        config = folder.parent / "config.yml"
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise GenLangSplatError(f"Found no step-*.ckpt in {folder}, so {path} is nothing to start from. {EXPECTED}")
    return checkpoint, config


def _with_harmonics(gaussians: GaussianParameters) -> GaussianParameters:
    """Adds zero harmonics of degree 1 to Gaussians of degree 0.

    Files of splats store constant colors as harmonics. Splatfacto stores them as logits at degree 0, which cannot
    represent the same colors exactly.
    """
    if gaussians.sh_degree > 0:
        return gaussians
    return replace(gaussians, features_rest=gaussians.means.new_zeros(len(gaussians), 3, 3))
