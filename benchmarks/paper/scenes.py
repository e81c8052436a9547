"""The nine scenes on which the paper reports: what is there of them, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.label_folders import find_label_folder, read_label_set
from genlangsplat_ns.evaluation.published import LERF_SCENES, OVS3D_SCENES
from genlangsplat_ns.views.model_folders import find_model

MAX_SIDE = 1440
"""Longer photographs are scaled to this side: LangSplat scales them to a height of 1080, and they are 4 to 3."""

PICTURES = (".jpg", ".jpeg", ".png")

ADVICE = {
    "lerf-ovs": "Unpack lerf_ovs.zip of Qmh/lerf_ovs on the Hugging Face hub, and give its folder (docs/lerf-ovs.md).",
    "3d-ovs": "Get the scene by the link in the repository of 3D-OVS, and give the folder around it (docs/3d-ovs.md).",
}
"""What to do about a missing scene of each data set."""

DATA_SETS: dict[str, tuple[str, ...]] = {"lerf-ovs": LERF_SCENES, "3d-ovs": OVS3D_SCENES}
"""The scenes of each data set, whose name is that of the layout of its labels."""

SCENES: dict[str, str] = {name: kind for kind, names in DATA_SETS.items() for name in names}
"""The data set of each scene."""


@dataclass(frozen=True)
class Scene:
    """A scene that can be trained and evaluated."""

    name: str
    folder: Path
    labels: Path
    """Folder of its labels."""
    photographs: int
    pixels: int
    """Of all photographs, at the size at which they are trained."""
    longest: int
    """The longest side of a photograph, at that size."""
    labeled: int
    """Number of labeled views."""
    pairs: int
    """Number of pairs of a labeled view and a text."""

    @property
    def kind(self) -> str:
        """The data set: `lerf-ovs` or `3d-ovs`."""
        return SCENES[self.name]

    @property
    def megapixels(self) -> float:
        """Of one photograph, on average."""
        return self.pixels / self.photographs / 1e6


def find_scenes(data: Sequence[Path], wanted: Iterable[str]) -> tuple[list[Scene], dict[str, str]]:
    """Looks for scenes in folders and in their subfolders.

    Args:
        data: Folders that hold scenes, or folders of data sets that do.
        wanted: Names of scenes.

    Returns:
        The usable scenes, and for each other one what is wrong and what to do.

    Raises:
        GenLangSplatError: A folder does not exist.
    """
    for folder in data:
        if not folder.is_dir():
            raise GenLangSplatError(f"The data folder {folder} does not exist. Give the folder of LERF-OVS or 3D-OVS.")
    scenes, problems = [], {}
    for name in wanted:
        try:
            scenes.append(_read_scene(name, _folder_of(name, data)))
        except GenLangSplatError as error:
            problems[name] = str(error)
    return scenes, problems


def _folder_of(name: str, data: Sequence[Path]) -> Path:
    places = [place for folder in data for place in (folder, *_subfolders(folder))]
    found = next((place / name for place in places if (place / name / "images").is_dir()), None)
    if found is None:
        searched = ", ".join(map(str, data)) or "no folder"
        raise GenLangSplatError(f"There is no {name}/images in {searched}. {ADVICE[SCENES[name]]}")
    return found


def _subfolders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))


def _read_scene(name: str, folder: Path) -> Scene:
    """Reads what training and evaluation will read, except for the pixels.

    Raises:
        GenLangSplatError: Photographs, cameras or labels are missing or unusable.
    """
    pictures = [path for path in sorted((folder / "images").iterdir()) if path.suffix.lower() in PICTURES]
    if not pictures:
        raise GenLangSplatError(f"{folder / 'images'} has no photograph. {ADVICE[SCENES[name]]}")
    if find_model(folder) is None:
        raise GenLangSplatError(
            f"{folder} has no cameras of COLMAP in sparse/0. Compute them: colmap automatic_reconstructor "
            f"--workspace_path {folder} --image_path {folder / 'images'}"
        )
    # The label folder of LERF-OVS lies beside the scene, also if the scene itself is a link to elsewhere.
    beside = folder.parent / "label" / name
    labels = beside if beside.is_dir() else find_label_folder(folder)
    if labels is None:
        raise GenLangSplatError(f"{folder} has no labels (label/{name} beside it, or segmentations). Add them.")
    found = read_label_set(labels)
    if found.kind != SCENES[name]:
        raise GenLangSplatError(f"{labels} has labels of the layout {found.kind}, expected {SCENES[name]}.")
    lost = sorted({Path(view).name for view in found.views} - {path.stem for path in pictures})
    if lost:
        raise GenLangSplatError(f"{folder / 'images'} lacks photographs that are labeled: {', '.join(lost[:5])}.")
    sizes = [_limited(*_size_of(path)) for path in pictures]
    return Scene(
        name,
        folder,
        labels,
        len(pictures),
        sum(width * height for width, height in sizes),
        max(map(max, sizes)),
        len(found.views),
        sum(len(view.categories) for view in found.views.values()),
    )


def _size_of(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            return picture.size
    except OSError as error:
        raise GenLangSplatError(f"The photograph {path} cannot be read ({error}). Copy it again.") from error


def _limited(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE / max(width, height))
    return int(width * scale), int(height * scale)
