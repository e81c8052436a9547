"""Extracts, previews and converts the features of a whole scene without training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Any

import numpy as np
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from genlangsplat_ns.datamanager import GenLangSplatDataManager, GenLangSplatDataManagerConfig
from genlangsplat_ns.dataparser import choose_parser
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.langsplat import check_langsplat_files, read_langsplat_view, write_langsplat_view
from genlangsplat_ns.features.preview import write_contact_sheet
from genlangsplat_ns.features.settings import FeatureSettings, OpenClipSettings, Sam2Settings, SamSettings
from genlangsplat_ns.scene_io.run_config import dataparser_words
from genlangsplat_ns.utils.progress import track
from genlangsplat_ns.utils.view_names import flat_name, without_suffix
from genlangsplat_ns.views.dataset import ViewDataset, camera_size
from genlangsplat_ns.views.settings import ViewSettings

LOGGER = logging.getLogger(__name__)


def open_views(settings: ViewSettings, features: FeatureSettings) -> GenLangSplatDataManager:
    """Opens the views of a scene; each photograph is read on first use.

    Raises:
        GenLangSplatError: The format is unknown or the data cannot be read.
    """
    from nerfstudio.configs.dataparser_configs import all_dataparsers

    names = [name for name in (settings.data_format, f"{settings.data_format}-data") if name in all_dataparsers]
    if not names:
        raise GenLangSplatError(
            f"There is no data format {settings.data_format!r}; choose one of {', '.join(all_dataparsers)}."
        )
    parser = deepcopy(all_dataparsers[names[0]])
    parser.data = settings.data
    # A scene in the default format may turn out to be a COLMAP scene, which has other settings.
    parser = choose_parser(parser)
    unknown = [name for name in settings.parser.given() if not hasattr(parser, name)]
    if unknown:
        raise GenLangSplatError(
            f"The data format {names[0]} has no setting {' or '.join(_flag(name) for name in unknown)}. Omit it, or "
            "give another --data-format."
        )
    config = GenLangSplatDataManagerConfig(
        data=settings.data,
        dataparser=replace(parser, **settings.parser.given()),
        max_image_side=settings.max_image_side,
        cache_images_type="uint8",
        **{item.name: getattr(features, item.name) for item in fields(FeatureSettings)},
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # As in training, the held-out views are the validation split, which may differ from a data set's test split.
    views: GenLangSplatDataManager = config.setup(device=device, extractor=FeatureExtractor(config, device))
    return views


def extract_scene(views: GenLangSplatDataManager, limit: int | None, preview: bool) -> None:
    """Extracts the features of a scene, of all views or `limit` of them, and optionally writes contact sheets of them.

    Raises:
        GenLangSplatError: The limit is not positive.
    """
    if limit is not None and limit < 1:
        raise GenLangSplatError(f"The limit is {limit}; give the number of views to extract, at least 1.")
    extracted = views.extract(limit)
    if preview:
        folder = views.store.folder / "preview"
        for split, index in track(extracted, "Writing previews"):
            name = views.view_name(split, index)
            path = folder / f"{split}-{index:04d}-{flat_name(without_suffix(name))}.jpg"
            write_contact_sheet(path, name, views.image(split, index), views.language_features(split, index))
        LOGGER.info("Contact sheets are in %s.", folder)


def import_langsplat(views: GenLangSplatDataManager, folder: Path) -> None:
    """Imports LangSplat's features of a scene into its store, where training finds them as the masks `langsplat`.

    The files of a view are either in the subfolder of its photograph or directly in the folder, LangSplat's
    `language_features`. The scene was opened with the masks langsplat.

    Raises:
        GenLangSplatError: A file is missing, damaged or does not fit its photograph, or fits two photographs.
    """
    store, all_views = views.store, views.all_views()
    try:
        stems = _stems_in(folder, [views.view_name(*view) for view in all_views])
        check_langsplat_files(folder, stems)
    except GenLangSplatError:
        store.remove_if_empty()
        raise
    with store.writing():
        for stem, (split, index) in zip(stems, track(all_views, "Converting from LangSplat"), strict=True):
            image, kept = views.masked_image(split, index)
            positions = source_positions(views.dataset(split), index)
            if kept is not None:
                positions[~kept.numpy()] = -1.0
            size, width = views.raw_size(split, index), store.identity.embedding_dim
            features = read_langsplat_view(folder, stem, positions, size, width)
            store.save(store.key(views.view_name(split, index), image, kept), features)
    LOGGER.info("Converted %d views into %s.", len(all_views), store.folder)


def training_command(views: GenLangSplatDataManager) -> str:
    """Returns the command that trains on the stored features of a scene, ready to be pasted."""
    config = views.config
    options: dict[str, str] = {"encoder": views.extractor.encoder_name, "masks": views.extractor.mask_name}
    options |= _changed(config, FeatureSettings(), ("encoder", "masks", "download_weights"))
    options |= _changed(config.open_clip, OpenClipSettings(), prefix="open-clip.")
    options |= _changed(config.sam, SamSettings(), prefix="sam.")
    if views.extractor.mask_name == "sam2":
        options |= _changed(config.sam2, Sam2Settings(), prefix="sam2.")
    if config.max_image_side is not None:
        options["max-image-side"] = str(config.max_image_side)
    words = ["ns-train gen-langsplat", f"--data {quote(str(config.dataparser.data))}"]
    words += [f"--pipeline.datamanager.{name} {value}" for name, value in options.items()]
    recognized = choose_parser(NerfstudioDataParserConfig(data=config.dataparser.data))
    # More options can be appended to a command that does not end with the options of a format.
    return " ".join(words if recognized == config.dataparser else [*words, dataparser_words(config.dataparser)]).strip()


def _changed(settings: Any, default: Any, without: Sequence[str] = (), prefix: str = "") -> dict[str, str]:
    """Returns the arguments of settings that differ from their defaults, without nested settings."""
    arguments = {}
    for item in fields(default):
        value, usual = getattr(settings, item.name), getattr(default, item.name)
        if value != usual and item.name not in without and not is_dataclass(usual):
            values = value if isinstance(value, tuple) else (value,)
            arguments[prefix + _flag(item.name)[2:]] = " ".join(quote(str(part)) for part in values)
    return arguments


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def export_langsplat(views: GenLangSplatDataManager, folder: Path, overwrite: bool = False) -> None:
    """Writes the features of a scene in LangSplat's format, after extracting missing ones.

    If photographs in several folders have the same name, the files are written into such folders.

    Raises:
        GenLangSplatError: Two photographs differ only in their suffix, or files exist.
    """
    all_views = views.all_views()
    names = [views.view_name(*view) for view in all_views]
    paths = _paths(names)
    stems = [PurePosixPath(name).stem for name in names]
    if _sharing(stems, names):
        stems = paths
        LOGGER.info("Several photographs have the same name, so their files are in its folders.")
    present = [name for stem in stems for name in (f"{stem}_s.npy", f"{stem}_f.npy") if (folder / name).exists()]
    if present and not overwrite:
        raise GenLangSplatError(
            f"{folder} already has {present[0]} and {len(present) - 1} more of the files, which may be LangSplat's "
            "own. Give another folder, or replace them with --overwrite."
        )
    folder.mkdir(parents=True, exist_ok=True)
    views.extract()
    for stem, (split, index) in zip(stems, track(all_views, "Converting to LangSplat"), strict=True):
        write_langsplat_view(folder, stem, views.language_features(split, index))
    LOGGER.info("Wrote %d files to %s. They belong to the undistorted views.", 2 * len(all_views), folder)


def source_positions(dataset: ViewDataset, index: int) -> np.ndarray:
    """Computes the position (x, y) on the photograph for every pixel of an undistorted view, (height, width, 2).

    An image of positions is undistorted in the same way as the photograph, so this works for any lens. Pixels outside
    the photograph have the position -1.
    """
    width, height = camera_size(dataset.raw_cameras[index])
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    # The third channel is 1 inside the photograph; below that, the positions are interpolated with the outside.
    positions = dataset.undistort(index, np.stack([columns, rows, np.ones_like(rows)], axis=-1))
    return np.where(positions[..., 2:] > 0.999, positions[..., :2], -1.0)


def _paths(names: list[str]) -> list[str]:
    """Returns the paths of photographs without their suffixes, which are checked to differ."""
    paths = [without_suffix(name) for name in names]
    alike = _sharing(paths, names)
    if alike:
        raise GenLangSplatError(
            f"The photographs {next(iter(alike.values()))} differ only in their suffix; LangSplat's files need unique "
            "names. Rename one of them."
        )
    return paths


def _stems_in(folder: Path, names: list[str]) -> list[str]:
    """Returns the path of each photograph's files in LangSplat's folder, without `_s.npy`."""
    paths, stems = _paths(names), [PurePosixPath(name).stem for name in names]
    shared = _sharing(stems, names)
    found = []
    for path, stem in zip(paths, stems, strict=True):
        mirrored = (folder / f"{path}_s.npy").is_file()
        if not mirrored and stem in shared:
            raise GenLangSplatError(
                f"The photographs {shared[stem]} have the same name, and {folder} has no {path}_s.npy. LangSplat's "
                "files need unique names: put them into the same subfolders as the photographs, or rename the "
                "photographs."
            )
        found.append(path if mirrored else stem)
    return found


def _sharing(keys: list[str], names: list[str]) -> dict[str, str]:
    """Returns the photographs that share a key, for a message; a photograph in both splits counts once."""
    groups: dict[str, set[str]] = {}
    for key, name in zip(keys, names, strict=True):
        groups.setdefault(key, set()).add(name)
    return {key: " and ".join(sorted(group)) for key, group in groups.items() if len(group) > 1}
