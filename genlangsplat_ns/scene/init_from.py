"""Gaussians that were trained elsewhere, as the beginning of a run that has only its language phase left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxtyping import Float32
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.model import GenLangSplatModelConfig
from genlangsplat_ns.scene.placement import MIN_AGREEMENT, agreement
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint, read_splat_checkpoint
from genlangsplat_ns.scene_io.frames import SceneFrame, move_gaussians
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.ply import read_ply
from genlangsplat_ns.scene_io.run_config import FRAME_SETTINGS, SPLIT_SETTINGS, RunConfig, read_run_config
from genlangsplat_ns.utils.console import CONSOLE

EXPECTED = (
    "Expected the config.yml, the folder or a step-*.ckpt of a run of splatfacto or gen-langsplat, or a .ply file of "
    "Gaussian splats."
)

MAX_DISTANCE = 1e-4
"""Two frames are the same when they put points less than this share of the scene's radius apart."""


@dataclass(frozen=True)
class GeometrySource:
    """Gaussians, and what is known of where they come from."""

    path: Path
    """The checkpoint or PLY file."""
    is_checkpoint: bool
    """Whether it is a checkpoint."""
    gaussians: GaussianParameters
    """As the file has them."""
    pose_adjustment: Float32[Tensor, "num_cameras 6"] | None = None
    """How the camera optimizer moved the training views."""
    run: RunConfig | None = None
    """The config of the run, where it lies by the checkpoint."""
    frame: SceneFrame | None = None
    """The frame of the run, where it lies by the checkpoint."""

    def take_settings(self, model: GenLangSplatModelConfig) -> None:
        """Makes a model's settings those that the Gaussians were trained with, and its run begin with language.

        Args:
            model: The settings, which are changed.

        Raises:
            GenLangSplatError: The settings ask for a later language phase.
        """
        if model.language_start_step not in (None, 0):
            raise GenLangSplatError(
                f"Found --pipeline.model.language-start-step {model.language_start_step} with --pipeline.init-from, "
                "which begins with the language phase. Leave out one of the two."
            )
        model.language_start_step = 0
        model.sh_degree = self.gaussians.sh_degree
        known = {} if self.run is None else self.run.model
        model.rasterize_mode = known.get("rasterize_mode", model.rasterize_mode)
        model.background_color = known.get("background_color", model.background_color)
        if self.pose_adjustment is None:
            return
        mode = "off" if self.run is None else self.run.camera_mode
        if mode != "off":
            model.camera_optimizer.mode = mode
        elif model.camera_optimizer.mode == "off":
            model.camera_optimizer.mode = "SO3xR3"
            CONSOLE.print(
                f"[yellow]{escape(str(self.path))} has optimized cameras, but no config.yml that says how; SO3xR3 is "
                "taken. If it was SE3, give --pipeline.model.camera-optimizer.mode SE3."
            )

    def place(self, views: GenLangSplatDataManager, frame: Literal["auto", "nerfstudio", "data"]) -> GaussianParameters:
        """Returns the Gaussians in the frame of a scene.

        A checkpoint is in the frame of its run, which must be that of the scene. A PLY file does not say: one that
        ns-export wrote is in nerfstudio's frame, one of Inria's program in that of the poses before nerfstudio turned,
        centered and scaled them.

        Args:
            views: The scene.
            frame: Where the Gaussians lie; auto asks the photographs.

        Raises:
            GenLangSplatError: The frames or the training views do not fit each other.
        """
        outputs = views.train_dataparser_outputs
        here = SceneFrame(outputs.dataparser_transform, float(outputs.dataparser_scale))
        if self.is_checkpoint:
            if frame == "data":
                raise GenLangSplatError(
                    f"{self.path} is a checkpoint, whose Gaussians lie in the frame of its run; --pipeline.init-frame "
                    "data is for PLY files. Leave it out."
                )
            self._check_views(views)
            if self.frame is not None:
                self._check_frame(here, views)
                return self.gaussians
        candidates = {"nerfstudio": self.gaussians}
        if not self.is_checkpoint and not here.is_identity:
            candidates["data"] = move_gaussians(self.gaussians, here)
        if frame in candidates:
            candidates = {frame: candidates[frame]}
        scores = {name: agreement(gaussians, views) for name, gaussians in candidates.items()}
        chosen = max(scores, key=lambda name: scores[name])
        found = " and ".join(f"{max(score, 0.0):.0%} in the frame {name}" for name, score in scores.items())
        said = f"Of what varies in the photographs, the Gaussians of {self.path} explain {found}"
        if scores[chosen] >= MIN_AGREEMENT:
            CONSOLE.print(escape(f"{said}."))
        elif frame == "auto":
            raise GenLangSplatError(
                f"{said}; expected at least {MIN_AGREEMENT:.0%}. They show another scene, or lie in another frame. "
                f"{self._other_frame_advice()}"
            )
        else:
            CONSOLE.print(f"[yellow]{escape(said)}, which is little for the scene they should show.")
        return candidates[chosen]

    def _other_frame_advice(self) -> str:
        if self.run is not None:
            return f"The words of its own run for the end of the ns-train command are: {self.run.dataparser_words()}"
        return (
            "If it comes from a run of nerfstudio, name that run's config.yml instead, or put that run's dataparser at "
            "the end of the ns-train command, for example: nerfstudio-data --orientation-method none --center-method "
            "none --auto-scale-poses False. If you know the frame to be right, say so with --pipeline.init-frame "
            "nerfstudio, or data for that of the poses as they were given."
        )

    def _check_views(self, views: GenLangSplatDataManager) -> None:
        """Raises when adjusted cameras are not those of the scene; says when other views were held out."""
        differs = self._other_views(views)
        words = "" if self.run is None else f" Put this at the end of the command: {self.run.dataparser_words()}"
        count = len(views.train_dataset)
        if self.pose_adjustment is not None and (differs or len(self.pose_adjustment) != count):
            raise GenLangSplatError(
                f"{self.path} has optimized cameras of {len(self.pose_adjustment)} training views, this run has "
                f"{count}, and the two must be the same views.{words or ' Split them as that run did.'}"
            )
        if differs:
            CONSOLE.print(
                "[yellow]The views held out here are not those held out when the Gaussians were trained, so their "
                f"metrics say little.{escape(words)}"
            )

    def _other_views(self, views: GenLangSplatDataManager) -> bool:
        """Whether the run of a checkpoint trained on other views; lists in the data may overrule its settings."""
        config = views.config.dataparser
        if self.run is None or not self.run.differs(config, SPLIT_SETTINGS):
            return False
        if self.run.differs(config, ()):
            return True
        split = {name: self.run.dataparser[name] for name in SPLIT_SETTINGS if name in self.run.dataparser}
        as_there = replace(config, **split).setup().get_dataparser_outputs("train")
        return bool(as_there.image_filenames != views.train_dataset.image_filenames)

    def _check_frame(self, here: SceneFrame, views: GenLangSplatDataManager) -> None:
        """Raises when the run of a checkpoint lay in another frame."""
        assert self.frame is not None, "only called where the frame is known"
        distance = here.distance(self.frame, views.train_dataset.cameras.camera_to_worlds[:, :3, 3])
        if distance < MAX_DISTANCE:
            return
        if self.run is None:
            advice = "Its config.yml, which would say how, is gone: name its dataparser's settings at the end."
        elif self.run.differs(views.config.dataparser, FRAME_SETTINGS):
            advice = f"Put its dataparser at the end of the ns-train command: {self.run.dataparser_words()}"
        else:
            advice = (
                "Both have the same dataparser, so the data must differ: that run was trained on "
                f"{self.run.data}. Give these with --data."
            )
        raise GenLangSplatError(
            f"The Gaussians of {self.path} lie in another frame: its run has the scale {self.frame.scale:.6g}, this "
            f"one {here.scale:.6g}, and points of the scene lie up to {distance:.3g} times its radius apart. {advice}"
        )


def open_geometry(path: Path) -> GeometrySource:
    """Reads Gaussians from a run, a checkpoint or a PLY file.

    The latents of a run of this method are not read: the new run lifts its own, with its own autoencoder.

    Args:
        path: A config.yml, the folder of a run or of its checkpoints, a step-*.ckpt, or a .ply file.

    Raises:
        GenLangSplatError: There is nothing of that kind, or it cannot be read.
    """
    if not path.exists():
        raise GenLangSplatError(f"There is no {path} to begin from. {EXPECTED}")
    if path.suffix.lower() == ".ply" and path.is_file():
        return GeometrySource(path, False, _with_harmonics(read_ply(path)))
    checkpoint, config = _find_checkpoint(path)
    run = read_run_config(config) if config.is_file() else None
    read = read_splat_checkpoint(checkpoint, "an unknown method" if run is None else run.method)
    transforms = config.with_name("dataparser_transforms.json")
    frame = SceneFrame.read(transforms) if transforms.is_file() else None
    return GeometrySource(checkpoint, True, read.gaussians, read.pose_adjustment, run, frame)


def _find_checkpoint(path: Path) -> tuple[Path, Path]:
    """The checkpoint that a path means, and where the config.yml of its run would lie."""
    path = path.absolute()
    if path.suffix == ".ckpt":
        # nerfstudio keeps checkpoints in a folder of the run unless told to keep them beside its config.
        beside = path.parent / "config.yml"
        return path, beside if beside.is_file() else path.parent.parent / "config.yml"
    if path.suffix in (".yml", ".yaml") or (path / "config.yml").is_file():
        config = path if path.is_file() else path / "config.yml"
        folder = read_run_config(config).checkpoints
    else:
        folder = path / "nerfstudio_models" if (path / "nerfstudio_models").is_dir() else path
        config = folder.parent / "config.yml"
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise GenLangSplatError(f"Found no step-*.ckpt in {folder}, so {path} is nothing to begin from. {EXPECTED}")
    return checkpoint, config


def _with_harmonics(gaussians: GaussianParameters) -> GaussianParameters:
    """Gives Gaussians without harmonics three of zero each.

    A PLY file has its constant colors as harmonics, but splatfacto, where it has no other harmonics, as logits, which
    cannot hold them exactly.
    """
    if gaussians.sh_degree > 0:
        return gaussians
    return replace(gaussians, features_rest=gaussians.means.new_zeros(len(gaussians), 3, 3))
