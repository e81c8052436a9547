"""Language features on disk: one file per view, in one folder per choice of encoder and masks.

A file is named after its view and a hash of the view's pixels, so a view that comes in another size or undistorted
otherwise gets a file of its own and leaves the others alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from jaxtyping import Float, Int32, UInt8
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.files import atomic_path

FORMAT_VERSION = 1
"""Version of the files' layout; it enters the folder's name."""

STALE_SECONDS = 3600.0
"""A half-written file older than this belongs to a run that was killed."""


@dataclass(frozen=True)
class ViewFeatures:
    """The regions of one view and what they mean.

    Attributes:
        regions: For every level and pixel the row of `embeddings`, or -1 where there is no region.
        embeddings: Unit vectors in the encoder's image-text space. Rows are numbered through all levels of the view.
    """

    regions: Int32[Tensor, "levels height width"]
    embeddings: Float[Tensor, "num_regions embedding_dim"]


class FeatureStore:
    """A folder of view features that all come from one encoder and one set of masks; made by `FeatureStore.open`.

    Attributes:
        folder: Where the files lie.
        encoder_identity: Name, model and version of the encoder the embeddings come from.
        embedding_dim: Length of an embedding.
    """

    def __init__(self, folder: Path, manifest: dict[str, object]) -> None:
        self.folder = folder
        self.encoder_identity = str(manifest["encoder_identity"])
        self.embedding_dim = int(str(manifest["embedding_dim"]))
        self._digest = _digest(manifest)

    @classmethod
    def open(
        cls,
        root: Path,
        encoder_name: str,
        encoder_identity: str,
        embedding_dim: int,
        mask_name: str,
        mask_settings: Mapping[str, str | int | float],
    ) -> FeatureStore:
        """Opens, and where needed makes, the store of one data folder.

        Args:
            root: The data folder. When it cannot be written, the user's cache folder is used and named on the console.
            encoder_name: Short name of the encoder.
            encoder_identity: Name, model and version of the encoder.
            embedding_dim: Length of its embeddings.
            mask_name: Short name of the mask generator.
            mask_settings: All that shapes its regions.

        Raises:
            GenLangSplatError: If `root` is no folder, or neither it nor the cache folder can be written.
        """
        if not root.is_dir():
            raise GenLangSplatError(f"{root} is not a folder. Give the folder of the scene's data.")
        manifest: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "encoder": encoder_name,
            "encoder_identity": encoder_identity,
            "embedding_dim": embedding_dim,
            "masks": mask_name,
            "mask_settings": dict(mask_settings),
        }
        name = f"{_safe_name(encoder_name)}-{_safe_name(mask_name)}-{_digest(manifest)[:12]}"
        beside_data = root / "language_features" / name
        data_hash = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        in_cache = Path(platformdirs.user_cache_dir("genlangsplat-ns")) / data_hash / name
        try:
            _prepare_folder(beside_data, manifest)
            return cls(beside_data, manifest)
        except OSError as data_error:
            try:
                _prepare_folder(in_cache, manifest)
            except OSError as cache_error:
                raise GenLangSplatError(
                    f"Language features can be written neither to {beside_data} ({data_error.strerror}) nor to "
                    f"{in_cache} ({cache_error.strerror}). "
                    "Make one of them writable, for example by setting XDG_CACHE_HOME."
                ) from cache_error
            CONSOLE.print(
                f"[yellow]{escape(str(beside_data))} cannot be written ({data_error.strerror}); "
                f"language features go to {escape(str(in_cache))}."
            )
            return cls(in_cache, manifest)

    def key(self, view_name: str, image: UInt8[Tensor, "height width 3"]) -> str:
        """Returns the name under which a view's features are kept.

        Args:
            view_name: File name or path of the view.
            image: Its pixels as they are used for training, that is undistorted.
        """
        pixels = np.ascontiguousarray(image.cpu().numpy())
        content = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        return f"{_safe_name(Path(view_name).stem)}-{content[:16]}"

    def __contains__(self, key: object) -> bool:
        """Whether usable features are stored under the key; a file that cannot be used is named on the console."""
        path = self._path(str(key))
        if not path.exists():
            return False
        problem = self._read(str(key))
        if isinstance(problem, ViewFeatures):
            return True
        CONSOLE.print(f"[yellow]{escape(str(path))} {escape(problem)}; it is treated as missing and made anew.")
        return False

    def load(self, key: str) -> ViewFeatures:
        """Returns the features kept under the key, embeddings as float32.

        Raises:
            GenLangSplatError: If there is no such file, or it cannot be used.
        """
        features = self._read(key)
        if isinstance(features, str):
            raise GenLangSplatError(f"{self._path(key)} {features}. Extract the features of this view again.")
        return features

    def save(self, key: str, features: ViewFeatures) -> None:
        """Writes the features of a view; a reader sees either all of them or none.

        Raises:
            GenLangSplatError: If the features do not fit the store or each other.
        """
        regions = features.regions.cpu().numpy()
        embeddings = features.embeddings.detach().cpu().to(torch.float16).numpy()
        problem = self._problem(regions, embeddings)
        if problem is not None:
            raise GenLangSplatError(f"The features of view {key} cannot be stored: {problem}.")
        with atomic_path(self._path(key)) as path:
            np.savez_compressed(
                path,
                regions=regions.astype(_smallest_type(len(embeddings))),
                embeddings=embeddings,
                origin=np.array([self._digest, key]),
            )

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _read(self, key: str) -> ViewFeatures | str:
        """Returns the features, or in words why the file cannot be used."""
        try:
            loaded = np.load(self._path(key), allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return "is not a file of language features"
            with loaded as file:
                origin, regions, embeddings = file["origin"], file["regions"], file["embeddings"]
        except FileNotFoundError:
            return "does not exist"
        except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            return f"is truncated or not a file of language features ({type(error).__name__})"
        if origin.tolist() != [self._digest, key]:
            return "was made for another view or with other settings"
        problem = self._problem(regions, embeddings)
        if problem is not None:
            return f"is damaged: {problem}"
        return ViewFeatures(torch.from_numpy(regions.astype(np.int32)), torch.from_numpy(embeddings.astype(np.float32)))

    def _problem(self, regions: np.ndarray, embeddings: np.ndarray) -> str | None:
        """Says what is wrong with a view's arrays, or nothing."""
        if regions.ndim != 3 or regions.dtype.kind != "i":
            return f"its regions are {regions.dtype} {regions.shape}, not integers of levels x height x width"
        if embeddings.ndim != 2 or embeddings.dtype != np.float16 or embeddings.shape[1] != self.embedding_dim:
            return f"its embeddings are {embeddings.shape}, not regions x {self.embedding_dim}"
        if regions.size and not -1 <= regions.min() <= regions.max() < len(embeddings):
            return f"its regions run to {regions.max()} from {regions.min()}, but it has {len(embeddings)} embeddings"
        if not np.isfinite(embeddings).all():
            return "its embeddings hold values that are not finite"
        return None


def _prepare_folder(folder: Path, manifest: dict[str, object]) -> None:
    """Makes the folder, proves it writable by writing its manifest, and clears what killed runs left."""
    with atomic_path(folder / "manifest.json") as path:
        path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    for leftover in folder.glob(".*-????????.*"):
        if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
            leftover.unlink(missing_ok=True)


def _digest(manifest: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _safe_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", name).lstrip(".") or "_"


def _smallest_type(count: int) -> np.dtype:
    """The smallest signed integer type that holds -1 and `count` rows."""
    return next(np.dtype(kind) for kind in (np.int8, np.int16, np.int32) if count <= np.iinfo(kind).max)
