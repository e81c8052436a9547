"""Runs COLMAP's stages through pycolmap, and is the only module that knows it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.lens_groups import LensGroup
from genlangsplat_ns.photographs.solver import NamePair, SolvedLens, SolvedModel, SolvedPhotograph, name_pair

SMALLEST_MODEL = 3
"""Models of fewer photographs are dropped."""

MAX_MODELS = 20

UNFINISHED = "sparse-unfinished"
"""Folder beside the models in which COLMAP writes them. It has always this name, so that what a killed process leaves
is removed by the next one."""

FATAL_LEVEL = 3
"""COLMAP logs only what ends the process: its other lines would drown the progress."""


def import_pycolmap() -> Any:
    """Imports pycolmap.

    Raises:
        GenLangSplatError: It is not installed.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise GenLangSplatError(
            f"Cameras of photographs are computed with pycolmap, which cannot be imported ({error}). Install it with "
            '`pip install "genlangsplat-ns[photos]"`.'
        ) from error
    pycolmap.logging.minloglevel = FATAL_LEVEL
    return pycolmap


class Colmap:
    """COLMAP's database of a folder of photographs, and what is computed with it.

    The database keeps features and matches, so a stage that was interrupted goes on with what is missing.

    Args:
        database: The file of the database, which is created.
        images: Folder of the photographs.
        masks: Folder of masks: `x.jpg.png` for `x.jpg`, black without features.
    """

    def __init__(self, database: Path, images: Path, masks: Path) -> None:
        self._pycolmap = import_pycolmap()
        self._database, self._images, self._masks = database, images, masks
        database.parent.mkdir(parents=True, exist_ok=True)
        with self._open():
            pass

    def add_lens(self, group: LensGroup) -> int:
        """Adds a lens, and returns its number."""
        camera = self._pycolmap.Camera(
            model=group.model, width=group.width, height=group.height, params=group.parameters
        )
        camera.has_prior_focal_length = group.known
        with self._open() as database:
            return int(database.write_camera(camera))

    def extract(self, names: Sequence[str], lens: int, max_features: int) -> None:
        """Extracts the features of photographs that have none yet."""
        reader = self._pycolmap.ImageReaderOptions()
        reader.existing_camera_id = lens
        if self._masks.is_dir():
            reader.mask_path = str(self._masks)
        options = self._pycolmap.FeatureExtractionOptions()
        options.sift.max_num_features = max_features
        with self._reporting("extract features"):
            self._pycolmap.extract_features(
                self._database,
                self._images,
                image_names=list(names),
                camera_mode=self._pycolmap.CameraMode.SINGLE,
                reader_options=reader,
                extraction_options=options,
            )

    def features(self) -> dict[str, int]:
        """Returns the number of features of each photograph whose features were extracted."""
        with self._open() as database:
            return {
                image.name: int(database.num_keypoints_for_image(image.image_id))
                for image in database.read_all_images()
                if database.exists_keypoints(image.image_id)
            }

    def descriptors(self, name: str) -> UInt8[np.ndarray, "features 128"]:
        """Returns the descriptors of the features of a photograph."""
        with self._open() as database:
            stored = database.read_descriptors(database.read_image_with_name(name).image_id)
            return np.array(stored.data, dtype=np.uint8).reshape(-1, 128)

    def compared(self, pairs: Sequence[NamePair]) -> set[NamePair]:
        """Returns those of some pairs that were compared already, also if they have no matches."""
        with self._open() as database:
            numbers = {image.name: image.image_id for image in database.read_all_images()}
            known = [pair for pair in pairs if pair[0] in numbers and pair[1] in numbers]
            return {pair for pair in known if database.exists_two_view_geometry(*(numbers[name] for name in pair))}

    def matched(self) -> dict[NamePair, int]:
        """Returns the number of verified matches of all pairs that have some."""
        with self._open() as database:
            names = {image.image_id: image.name for image in database.read_all_images()}
            pairs = zip(*database.read_two_view_geometry_num_inliers(), strict=True)
            found = {}
            for pair, count in pairs:
                first, second = self._pycolmap.pair_id_to_image_pair(pair)
                found[name_pair(names[first], names[second])] = int(count)
            return found

    def match(self, pairs: Sequence[NamePair]) -> None:
        """Compares pairs of photographs, and verifies the matches by their geometry."""
        with tempfile.TemporaryDirectory() as folder, self._reporting("match features"):
            listed = Path(folder) / "pairs.txt"
            listed.write_text("".join(f"{first} {second}\n" for first, second in pairs), encoding="utf-8")
            pairing = self._pycolmap.ImportedPairingOptions()
            pairing.match_list_path = str(listed)
            self._pycolmap.match_image_pairs(self._database, pairing_options=pairing)

    def solve(self, names: Sequence[str], output: Path, placed: Callable[[int], None]) -> list[SolvedModel]:
        """Finds the cameras of photographs, and writes COLMAP's models to `output/0`, `output/1` and so on.

        The models are sorted by their number of photographs. `placed` is called with the number of photographs of the
        model that is being built.
        """
        options = self._pycolmap.IncrementalPipelineOptions()
        options.image_names = list(names)
        options.min_model_size = SMALLEST_MODEL
        options.max_num_models = MAX_MODELS
        options.random_seed = 0
        count = 0

        def first_pair() -> None:
            nonlocal count
            count = 2
            placed(count)

        def next_photograph() -> None:
            nonlocal count
            count += 1
            placed(count)

        with _new_folder(output.with_name(UNFINISHED)) as folder, self._reporting("find cameras"):
            found = self._pycolmap.incremental_mapping(
                self._database,
                self._images,
                folder,
                options=options,
                initial_image_pair_callback=first_pair,
                next_image_callback=next_photograph,
            )
            models = sorted(found.values(), key=lambda model: -model.num_reg_images())
            shutil.rmtree(output, ignore_errors=True)
            for number, model in enumerate(models):
                (output / str(number)).mkdir(parents=True)
                model.write(output / str(number))
        return [_solved(model) for model in models]

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._reporting("open the database"), self._pycolmap.Database.open(self._database) as database:
            yield database

    @contextmanager
    def _reporting(self, stage: str) -> Iterator[None]:
        """Converts exceptions of pycolmap, which names neither the stage nor what to do."""
        try:
            yield
        except (RuntimeError, ValueError, LookupError) as error:
            raise GenLangSplatError(
                f"COLMAP could not {stage} ({str(error).strip() or type(error).__name__}). Run the same command again; "
                f"if it fails again, remove {self._database} first."
            ) from error


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Makes an empty folder, and removes it at the end."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _solved(model: Any) -> SolvedModel:
    """Copies what the scene needs out of a model of pycolmap."""
    lenses = {
        number: SolvedLens(camera.model.name, camera.width, camera.height, tuple(map(float, camera.params)))
        for number, camera in model.cameras.items()
    }
    photographs = []
    for number in model.reg_image_ids():
        image = model.image(number)
        pose = np.asarray(image.cam_from_world().matrix(), dtype=np.float64)
        seen = int(image.num_points3D)
        photographs.append(SolvedPhotograph(image.name, image.camera_id, pose[:, :3], pose[:, 3], seen))
    points = list(model.points3D.values())
    positions = np.array([point.xyz for point in points], dtype=np.float64).reshape(-1, 3)
    colors = np.array([point.color for point in points], dtype=np.uint8).reshape(-1, 3)
    photographs.sort(key=lambda photograph: photograph.name)
    return SolvedModel(lenses, photographs, positions, colors, float(model.compute_mean_reprojection_error()))
