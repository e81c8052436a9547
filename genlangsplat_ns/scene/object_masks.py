"""Writes masks of what answers texts, where programs that train on photographs look for them."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from PIL import Image

from genlangsplat_ns.dataparser import transforms_path
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.settings import QueryMode, SelectionSettings
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.utils.files import atomic_path, check_new_file
from genlangsplat_ns.utils.progress import track
from genlangsplat_ns.views.masked_transforms import write_masked_transforms

LOGGER = logging.getLogger(__name__)

MaskNames = Literal["stem", "full"]
"""`stem` names the mask of `a/x.jpg` `a/x.png`, as nerfstudio does; `full` names it `a/x.jpg.png`, as COLMAP does."""

MASKS = "masks"
"""Folder of the masks."""

MASKED_TRANSFORMS = "transforms_masked.json"
"""Name of the copy of transforms.json that lists the masks."""


def mask_files(views: list[str], names: MaskNames) -> list[str]:
    """Returns the path of the mask of every view below the folder of the masks.

    Raises:
        GenLangSplatError: Two views would have the same mask.
    """
    files = [view + ".png" if names == "full" else PurePosixPath(view).with_suffix(".png").as_posix() for view in views]
    owners = defaultdict(list)
    for file, view in zip(files, views, strict=True):
        owners[file.casefold()].append(view)
    shared = next((own for own in owners.values() if len(own) > 1), None)
    if shared is not None:
        raise GenLangSplatError(
            f"The photographs {' and '.join(shared)} would have the same mask, because their names differ only in the "
            "suffix or in case. Add --mask-names full, or rename one."
        )
    return files


@torch.no_grad()
def write_object_masks(
    scene: LanguageScene,
    query: TextQuery,
    output_dir: Path,
    split: Literal["train", "eval", "all"] = "all",
    mode: QueryMode = "gaussian",
    names: MaskNames = "stem",
    selection: SelectionSettings | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Writes `masks/IMAGE.png` for every view: white where any text is above its threshold, black elsewhere.

    A mask has the size, lens and orientation of the photograph, not of the undistorted view, because training programs
    apply masks before they undistort. What a mask of the data leaves out stays black. If the scene has a
    transforms.json, `transforms_masked.json` lists its photographs with their masks.

    Returns:
        The masks, and `transforms_masked.json` if it was written.

    Raises:
        GenLangSplatError: There are no views, no Gaussian is selected, two views would have the same mask, or a file
            exists or cannot be written.
    """
    # A photograph may belong to both splits.
    views = list({view.name: view for view in reversed(scene.views(split))}.values())[::-1]
    if not views:
        raise GenLangSplatError(f"The run has no views in the split {split}. Choose another with --split.")
    files = mask_files([view.name for view in views], names)
    paths = [output_dir / MASKS / file for file in files]
    poses = transforms_path(Path(scene.datamanager.config.dataparser.data))
    listing = [output_dir / MASKED_TRANSFORMS] if poses.is_file() else []
    for path in (*paths, *listing):
        check_new_file(path, overwrite)
    embedded = scene.embed(query)
    scene.field.select(embedded, selection)
    empty, masks = [], {}
    for view, file, path in zip(track(views, "Writing masks"), files, paths, strict=True):
        answers = scene.answer(embedded, scene.camera(view), mode).answers
        kept = torch.stack([answer.mask for answer in answers]).any(dim=0).numpy()
        counted = scene.mask(view)
        kept = kept if counted is None else kept & counted.cpu().numpy()
        pixels = scene.datamanager.photograph_mask(view.split, view.index, kept)
        with atomic_path(path) as temporary:
            Image.fromarray(pixels.astype(np.uint8) * 255).save(temporary)
        masks[scene.datamanager.photograph(view.split, view.index).resolve()] = f"{MASKS}/{file}"
        if not pixels.any():
            empty.append(view.name)
    if empty:
        LOGGER.warning(
            "The masks of %d of %d views are black, because no pixel is above the threshold: %s.",
            *(len(empty), len(views), ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")),
        )
    if listing:
        listed = write_masked_transforms(poses, listing[0], masks)
        if listed < len(masks):
            LOGGER.warning("%s lists %d of %d masks; %s has no others.", listing[0], listed, len(masks), poses)
    return [*paths, *listing]
