"""Every reader of files that may come from elsewhere, with its seeds and how it is called."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.dataparser import choose_parser
from genlangsplat_ns.evaluation.label_folders import read_label_set
from genlangsplat_ns.features.costs import ExtractionCosts
from genlangsplat_ns.features.langsplat import read_langsplat_view
from genlangsplat_ns.features.store import FeatureStore
from genlangsplat_ns.language.autoencoder import read_autoencoder
from genlangsplat_ns.language.memory import SceneMemory
from genlangsplat_ns.language.vocabulary import read_vocabulary
from genlangsplat_ns.photographs.exif import read_shot_data
from genlangsplat_ns.photographs.prepare import read_record
from genlangsplat_ns.photographs.reconstruct import read_outcome
from genlangsplat_ns.photographs.video import extract_frames
from genlangsplat_ns.scene.cameras import read_camera_path
from genlangsplat_ns.scene.cost_table import compare_costs, notes_on_costs, read_costs
from genlangsplat_ns.scene_io.checkpoints import check_checkpoint, load_checkpoint, read_splat_checkpoint
from genlangsplat_ns.scene_io.frames import SceneFrame
from genlangsplat_ns.scene_io.run_config import read_run_config
from genlangsplat_ns.scene_io.run_costs import RunCosts
from genlangsplat_ns.scene_io.seed_points import read_seed_points
from genlangsplat_ns.scene_io.splat_files import read_splats
from genlangsplat_ns.scene_io.trust import reasons_for_distrust
from genlangsplat_ns.utils.photographs import open_photograph, read_photograph, reading_picture
from genlangsplat_ns.utils.weight_files import read_weights
from genlangsplat_ns.views.masks import read_mask
from pretrain.checkpoint import read_checkpoint
from pretrain.scannet import ExportedScene, ScanNetSource
from pretrain.scene_files import SceneFile
from pretrain.sens_file import SensFile
from tests.robustness import picture_seeds, seeds
from tests.robustness.seed import Seed


@dataclass(frozen=True)
class Parser:
    """A reader of files."""

    name: str
    make: Callable[[Path], list[Seed]]
    """Makes the seeds, and writes files beside them into a folder."""
    read: Callable[[Path], Any]
    """Reads a file; the others lie beside it."""
    weight: float = 1.0
    """Share of the inputs, by how complicated and how fast the reader is."""


def _scene(path: Path) -> None:
    config = NerfstudioDataParserConfig(data=path, load_3D_points=False)
    choose_parser(config).setup().get_dataparser_outputs("train")


def _colmap_scene(path: Path) -> None:
    root = next(folder for folder in path.parents if (folder / "images").is_dir())
    choose_parser(ColmapDataParserConfig(data=root)).setup().get_dataparser_outputs("train")


def _labels(path: Path) -> None:
    labels = read_label_set(path.parents[1] if path.suffix == ".png" else path.parent)
    for view in labels.views.values():
        for item in view.objects:
            item.pixels(view.width, view.height)


def _picture(path: Path) -> None:
    read_photograph(path, "Replace it.", max_side=8)
    with reading_picture(str(path), "Replace it."), open_photograph(path) as file:
        read_shot_data(file)


def _video(path: Path) -> None:
    extract_frames(path, path.parent / "frames", 3)


def _features(path: Path) -> None:
    ExtractionCosts(path.parent).sum(["view"])
    store = FeatureStore.existing(path.parent)
    store.load(store.keys()[0])


def _langsplat(path: Path) -> None:
    columns, rows = np.meshgrid(np.arange(14.0), np.arange(9.0))
    read_langsplat_view(path.parent, "view", np.stack([columns, rows], axis=-1), (14, 9), 8)


def _checkpoint(path: Path) -> None:
    check_checkpoint(path)
    read_splat_checkpoint(path)
    state = load_checkpoint(path, mmap=False)["pipeline"]
    SceneMemory.from_state({name.removeprefix("memory."): state[name] for name in state if name.startswith("memory.")})


def _recording(path: Path) -> None:
    recording = SensFile.open(path)
    recording.color(recording.numbers[-1], max_side=8)


def _embeddings(path: Path) -> None:
    file = SceneFile.read(path)
    file.verify()


def _scannet(path: Path) -> None:
    root = path if path.suffix == "" else path.parent if path.name == "list.txt" else path.parents[2]
    ExportedScene.open(root / "scene0001_00").is_tracked(0)
    ScanNetSource(root, stride=1, split="all", scenes=root / "list.txt").frames()


def _report(path: Path) -> None:
    costs = read_costs(path)
    compare_costs([costs])
    notes_on_costs(["a run"], [costs])


def _recorded(path: Path) -> None:
    read_record(path.parent / "photographs.json")
    read_outcome(path.parent / "outcome.json")


def _config(path: Path) -> None:
    reasons_for_distrust(path)
    read_run_config(path)


def _training_checkpoint(path: Path) -> None:
    read_checkpoint(path.parent, {"seed": 0})


PARSERS = (
    Parser("splats", seeds.splat_files, read_splats, 6),
    Parser("seed points", seeds.seed_point_files, read_seed_points, 3),
    Parser("transforms.json", seeds.transforms_files, _scene, 2),
    Parser("COLMAP model", seeds.colmap_files, _colmap_scene, 2),
    Parser("labels", seeds.label_files, _labels, 3),
    Parser("pictures", picture_seeds.pictures, _picture, 3),
    Parser("masks", picture_seeds.pictures, lambda path: read_mask(path, (16, 12)), 1),
    Parser("feature store", seeds.feature_files, _features, 3),
    Parser("LangSplat features", seeds.langsplat_files, _langsplat, 2),
    Parser("autoencoder", seeds.autoencoder_files, read_autoencoder, 1),
    Parser("weights", seeds.weight_files, read_weights, 1),
    Parser("checkpoint", seeds.checkpoint_files, _checkpoint, 2),
    Parser("recording (.sens)", seeds.sens_files, _recording, 2),
    Parser("embeddings", seeds.embedding_files, _embeddings, 1),
    Parser("pre-training checkpoint", seeds.training_checkpoints, _training_checkpoint),
    Parser("ScanNet folder", seeds.scene_lists, _scannet, 0.5),
    Parser("vocabulary", seeds.vocabularies, read_vocabulary, 0.5),
    Parser("camera path", seeds.camera_paths, read_camera_path, 1),
    Parser("frame of a run", seeds.frame_files, SceneFrame.read, 1),
    Parser("report of a run", seeds.report_files, _report, 1),
    Parser("costs of a run", seeds.run_cost_files, lambda path: RunCosts.resume(path.parent, 99), 1),
    Parser("config.yml", seeds.config_files, _config, 0.5),
    Parser("records of from-photos", seeds.preparation_files, _recorded, 1),
    # ffmpeg runs three times for each input.
    *([Parser("videos", picture_seeds.videos, _video, 0.05)] if shutil.which("ffmpeg") else []),
)
"""All readers; that of videos needs ffmpeg."""
