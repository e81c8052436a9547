"""Features of a whole scene without training: extracted, looked at, or exchanged with LangSplat."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from genlangsplat_ns.datamanager import GenLangSplatDataManager, GenLangSplatDataManagerConfig, Split
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.langsplat import check_langsplat_files, read_langsplat_view, write_langsplat_view
from genlangsplat_ns.features.preview import write_contact_sheet
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.progress import track
from genlangsplat_ns.views.dataset import ViewDataset
from genlangsplat_ns.views.settings import ViewSettings

LOGGER = logging.getLogger(__name__)


def open_views(settings: ViewSettings, features: FeatureSettings) -> GenLangSplatDataManager:
    """Opens the views of a scene; pictures are read one at a time when they are asked for.

    Args:
        settings: The views.
        features: Masks and encoder.

    Raises:
        GenLangSplatError: The format is unknown or the data cannot be read.
    """
    from nerfstudio.configs.dataparser_configs import all_dataparsers

    names = [name for name in (settings.data_format, f"{settings.data_format}-data") if name in all_dataparsers]
    if not names:
        raise GenLangSplatError(
            f"There is no data format {settings.data_format!r}; choose one of {', '.join(all_dataparsers)}."
        )
    config = GenLangSplatDataManagerConfig(
        data=settings.data,
        dataparser=deepcopy(all_dataparsers[names[0]]),
        max_image_side=settings.max_image_side,
        cache_images_type="uint8",
        **{item.name: getattr(features, item.name) for item in fields(FeatureSettings)},
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # The held-out views are those of training, which a data set may list apart from those of its test.
    views: GenLangSplatDataManager = config.setup(
        device=device, test_mode="val", extractor=FeatureExtractor(config, device)
    )
    return views


def extract_scene(views: GenLangSplatDataManager, limit: int | None, preview: bool) -> None:
    """Extracts the features of a scene, and paints contact sheets of them.

    Args:
        views: The scene.
        limit: Only the first so many views; None for all.
        preview: Whether to paint contact sheets.

    Raises:
        GenLangSplatError: If the limit is no positive number.
    """
    if limit is not None and limit < 1:
        raise GenLangSplatError(f"The limit is {limit}; give the number of views to extract, at least 1.")
    extracted = views.extract(limit)
    if preview:
        folder = views.store.folder / "preview"
        for split, index in track(extracted, "Painting previews"):
            name = views.view_name(split, index)
            # The number tells apart views that are called the same in different folders.
            path = folder / f"{split}-{index:04d}-{Path(name).stem}.jpg"
            write_contact_sheet(path, name, views.image(split, index), views.language_features(split, index))
        LOGGER.info("Contact sheets are in %s.", folder)


def import_langsplat(views: GenLangSplatDataManager, folder: Path) -> None:
    """Puts LangSplat's features of a scene into its store, where training finds them as the masks langsplat.

    Args:
        views: The scene, opened with the masks langsplat.
        folder: LangSplat's `language_features`.

    Raises:
        GenLangSplatError: If a file is missing, damaged or does not fit its photograph, or photographs have one name.
    """
    store, every = views.store, views.all_views()
    try:
        stems = _unique_stems(views, every)
        check_langsplat_files(folder, stems)
    except GenLangSplatError:
        store.remove_if_empty()
        raise
    with store.writing():
        for stem, (split, index) in zip(stems, track(every, "Converting from LangSplat"), strict=True):
            dataset = views.dataset(split)
            features = read_langsplat_view(
                folder,
                stem,
                source_positions(dataset, index),
                _photograph_size(dataset, index),
                store.identity.embedding_dim,
            )
            store.save(store.key(views.view_name(split, index), views.image(split, index)), features)
    LOGGER.info("Converted %d views into %s.", len(every), store.folder)


def training_command(views: GenLangSplatDataManager) -> str:
    """The command that trains on the features of a scene as they are."""
    config = views.config
    options: dict[str, object] = {"data": config.data, "pipeline.datamanager.masks": config.masks}
    if views.extractor.encoder_name == "openclip":
        options["pipeline.model.autoencoder"] = "FILE"
    else:
        options["pipeline.datamanager.encoder"] = views.extractor.encoder_name
    if tuple(config.levels) != LEVELS:
        options["pipeline.datamanager.levels"] = " ".join(config.levels)
    if config.max_image_side is not None:
        options["pipeline.datamanager.max-image-side"] = config.max_image_side
    return " ".join(["ns-train gen-langsplat", *(f"--{name} {value}" for name, value in options.items())])


def export_langsplat(views: GenLangSplatDataManager, folder: Path, overwrite: bool = False) -> None:
    """Writes the features of a scene as LangSplat's files, extracting those that are missing.

    Args:
        views: The scene.
        folder: Where the files go.
        overwrite: Whether files that are there already may be replaced.

    Raises:
        GenLangSplatError: If two views have the same name, or files are in the way.
    """
    every = views.all_views()
    stems = _unique_stems(views, every)
    present = [name for stem in stems for name in (f"{stem}_s.npy", f"{stem}_f.npy") if (folder / name).exists()]
    if present and not overwrite:
        raise GenLangSplatError(
            f"{folder} has {present[0]} and {len(present) - 1} more of the files already, which may be LangSplat's "
            "own. Name another folder, or replace them with --overwrite."
        )
    folder.mkdir(parents=True, exist_ok=True)
    views.extract()
    for stem, (split, index) in zip(stems, track(every, "Converting to LangSplat"), strict=True):
        write_langsplat_view(folder, stem, views.language_features(split, index))
    LOGGER.info("Wrote %d files to %s. They belong to the undistorted views.", 2 * len(every), folder)


def source_positions(dataset: ViewDataset, index: int) -> np.ndarray:
    """For every pixel of an undistorted view the position (x, y) on the photograph it shows, (height, width, 2).

    A picture of positions is undistorted like the photograph itself, so whatever lens it is, both agree. Beyond the
    photograph's edge positions are -1.
    """
    width, height = _photograph_size(dataset, index)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    # The third channel is one on the photograph; where it is less, the two others are mixed with what lies beyond.
    moved = dataset.undistort(index, np.stack([columns, rows, np.ones_like(rows)], axis=-1))
    return np.where(moved[..., 2:] > 0.999, moved[..., :2], -1.0)


def _photograph_size(dataset: ViewDataset, index: int) -> tuple[int, int]:
    camera = dataset.raw_cameras[index]
    return int(camera.width), int(camera.height)


def _unique_stems(views: GenLangSplatDataManager, every: list[tuple[Split, int]]) -> list[str]:
    """Names of the views as LangSplat's files carry them; a photograph that is in both splits counts once."""
    photographs = [views.dataset(split).image_filenames[index] for split, index in every]
    stems = [path.stem for path in set(photographs)]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise GenLangSplatError(
            f"Several views are called {', '.join(twice[:3])}; LangSplat's files need unique names."
        )
    return [path.stem for path in photographs]
