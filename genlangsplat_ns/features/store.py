"""Language features on disk: one file per view, in one folder per combination of encoder and masks.

A file name contains the view's name and a hash of its pixels and its mask, so the same view at another size, with
another undistortion or with another mask gets its own file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock, Timeout
from jaxtyping import Bool, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.view_file import ViewFeatures, feature_problem, read_view_file, write_view_file
from genlangsplat_ns.utils.files import atomic_path, safe_name
from genlangsplat_ns.utils.json_files import integer_of, list_of, object_of, read_json, text_of
from genlangsplat_ns.utils.unfinished import remove_abandoned

LOGGER = logging.getLogger(__name__)

FAULTS_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a folder that is writable, but has no room or is broken."""

FORMAT_VERSION = 2
"""Version of the file layout; part of the hash in the folder's name."""

MAX_EMBEDDING_DIM = 1 << 20
"""A file with wider embeddings is damaged."""


@dataclass(frozen=True)
class StoreIdentity:
    """What the features of a store were made with; stores differ by the hash of it.

    `encoder` and `masks` are short names; `encoder_identity` and `mask_settings` contain all that changes the results.
    """

    encoder: str
    encoder_identity: str
    embedding_dim: int
    masks: str
    mask_settings: Mapping[str, str | int | float]
    levels: tuple[str, ...]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> StoreIdentity:
        """Reads an identity from JSON values.

        Raises:
            ValueError: They are of other types.
        """
        settings = object_of(fields.get("mask_settings"), "mask_settings")
        unusual = [name for name, value in settings.items() if not isinstance(value, str | int | float)]
        levels = tuple(text_of(level, "a level") for level in list_of(fields.get("levels"), "levels"))
        if unusual or set(fields) != {item.name for item in dataclass_fields(cls)}:
            raise ValueError(f"it has the entries {sorted(fields)} and no plain value for the settings {unusual}")
        return cls(
            **{name: text_of(fields.get(name), name) for name in ("encoder", "encoder_identity", "masks")},
            embedding_dim=integer_of(fields.get("embedding_dim"), "embedding_dim", 1, MAX_EMBEDDING_DIM),
            mask_settings=settings,
            levels=levels,
        )

    @property
    def manifest(self) -> str:
        """Content of `manifest.json` in the store's folder."""
        fields = {**vars(self), "mask_settings": dict(self.mask_settings), "format_version": FORMAT_VERSION}
        return json.dumps(fields, indent=2, sort_keys=True, default=str) + "\n"

    @property
    def digest(self) -> str:
        """Hash of the manifest."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()


class FeatureStore:
    """A folder of view features from one encoder and one mask generator; created with `FeatureStore.open`."""

    def __init__(self, folder: Path, identity: StoreIdentity, read_only: Path | None = None) -> None:
        self.folder = folder
        self.identity = identity
        self._read_only = read_only

    @classmethod
    def open(cls, root: Path, identity: StoreIdentity) -> FeatureStore:
        """Opens the store of a data folder; creates it if it does not exist.

        Args:
            root: The data folder. If it is read-only, existing features are read from it, and new ones are written to
                the user's cache folder; a warning is logged.

        Raises:
            GenLangSplatError: If `root` is not a folder, or neither it nor the cache folder is writable.
        """
        if not root.is_dir():
            raise GenLangSplatError(f"{root} is not a folder. Give the folder of the scene's data.")
        encoder, masks = (safe_name(name, keep_case=True) for name in (identity.encoder, identity.masks))
        name = f"{encoder}-{masks}-{identity.digest[:12]}"
        beside_data = root / "language_features" / name
        data_hash = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        in_cache = Path(platformdirs.user_cache_dir("genlangsplat-ns")) / data_hash / name
        try:
            prepare_folder(beside_data, identity.manifest)
            return cls(beside_data, identity)
        except OSError as data_error:
            if data_error.errno in FAULTS_OF_DISKS:
                # The features belong there, and another run would not find them elsewhere.
                raise GenLangSplatError(
                    f"Language features cannot be written to {beside_data} ({data_error.strerror}). Free disk space or "
                    "check the disk, then run the same command again."
                ) from data_error
            try:
                prepare_folder(in_cache, identity.manifest)
            except OSError as cache_error:
                raise GenLangSplatError(
                    f"Language features cannot be written to {beside_data} ({data_error.strerror}) or {in_cache} "
                    f"({cache_error.strerror}). Make one of them writable, for example by setting XDG_CACHE_HOME."
                ) from cache_error
            message = "%s is not writable (%s). New language features are written to %s."
            LOGGER.warning(message, beside_data, data_error.strerror, in_cache)
            return cls(in_cache, identity, read_only=beside_data)

    @classmethod
    def existing(cls, folder: Path) -> FeatureStore:
        """Opens an existing store, a folder with `manifest.json`, without writing anything.

        Raises:
            GenLangSplatError: If the manifest is missing, damaged or of another version.
        """
        path = folder / "manifest.json"
        try:
            fields = object_of(read_json(path), "the file")
            version = fields.pop("format_version", None)
            identity = StoreIdentity.from_json(fields) if version == FORMAT_VERSION else None
        except FileNotFoundError as error:
            below = sorted(str(found.parent) for found in folder.glob("**/language_features/*/manifest.json"))
            raise GenLangSplatError(
                f"{folder} is not a feature store: it has no manifest.json. "
                + (f"Found {' and '.join(below[:3])} below it; use that." if below else "Extract features first.")
            ) from error
        except (OSError, ValueError) as error:
            raise GenLangSplatError(
                f"{path} is damaged ({type(error).__name__}: {error}). Extract the features of this scene again."
            ) from error
        if identity is None:
            raise GenLangSplatError(
                f"{folder} is a feature store of version {version}, expected version {FORMAT_VERSION}. "
                "Extract the features of this scene again."
            )
        return cls(folder, identity)

    def keys(self) -> list[str]:
        """Returns the sorted keys of all views with a file; files are checked when they are loaded."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.safetensors"))

    @contextmanager
    def writing(self) -> Iterator[bool]:
        """Locks the folder and deletes temporary files of killed processes; yields whether it had to wait for the lock.

        A waiting process then finds the files of the other. The operating system releases the lock of a killed process.
        """
        lock, waited = FileLock(self.folder / ".lock"), False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            LOGGER.info("Another process is extracting into %s; waiting until it finishes.", self.folder)
            lock.acquire()
        try:
            remove_abandoned(self.folder)
            yield waited
        finally:
            lock.release()

    def remove_if_empty(self) -> None:
        """Removes the folder if no view was stored, so that a failed command leaves no empty store."""
        if [path.name for path in self.folder.iterdir()] == ["manifest.json"]:
            (self.folder / "manifest.json").unlink()
            self.folder.rmdir()
            if not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()

    def key(
        self, view_name: str, image: UInt8[Tensor, "height width 3"], kept: Bool[Tensor, "height width"] | None = None
    ) -> str:
        """Returns the key of a view's features, the stem of their file.

        It depends on the file name of the view, its undistorted pixels, and its mask `kept` (None keeps all). Folders
        do not count: adding a camera changes the folders in the names of all views, whose features are kept.
        """
        pixels = np.ascontiguousarray(image.cpu().numpy())
        content = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes())
        if kept is not None and not bool(kept.all()):
            content.update(np.packbits(kept.cpu().numpy()).tobytes())
        return f"{safe_name(Path(view_name).stem, keep_case=True)}-{content.hexdigest()[:16]}"

    def __contains__(self, key: object) -> bool:
        """Whether usable features are stored under the key; logs a warning for an unusable file."""
        path = self._path(str(key))
        if not path.exists():
            return False
        problem = self._read(str(key))
        if isinstance(problem, str):
            LOGGER.warning("%s %s. Its features are extracted again.", path, problem)
        return not isinstance(problem, str)

    def load(self, key: str) -> ViewFeatures:
        """Returns the features of a view, with embeddings in float32.

        Raises:
            GenLangSplatError: If the file is missing or unusable.
        """
        features = self._read(key)
        if isinstance(features, str):
            raise GenLangSplatError(f"{self._path(key)} {features}. Extract the features of this view again.")
        return features

    def save(self, key: str, features: ViewFeatures) -> None:
        """Writes the features of a view atomically.

        Raises:
            GenLangSplatError: If the features are inconsistent or do not match the store, or cannot be written.
        """
        problem = feature_problem(features, self.identity.embedding_dim)
        if problem is not None:
            raise GenLangSplatError(
                f"The features of view {key} cannot be stored: {problem}. Correct the encoder or the masks."
            )
        path = self.folder / f"{key}.safetensors"
        try:
            with atomic_path(path) as temporary:
                write_view_file(temporary, features, [self.identity.digest, key])
        except OSError as error:
            raise GenLangSplatError(
                f"{path} could not be written ({error.strerror or error}). All earlier views are stored. Free disk "
                "space or fix the permissions, then run the same command again to continue."
            ) from error

    def size_of(self, key: str) -> int:
        """Returns the number of bytes of the file of a view; 0 if there is none."""
        path = self._path(key)
        return path.stat().st_size if path.is_file() else 0

    def _path(self, key: str) -> Path:
        path = self.folder / f"{key}.safetensors"
        if self._read_only is not None and not path.exists():
            path = self._read_only / path.name
        return path

    def _read(self, key: str) -> ViewFeatures | str:
        """Returns the features, or the reason why the file is unusable."""
        return read_view_file(self._path(key), [self.identity.digest, key], self.identity.embedding_dim)


def prepare_folder(folder: Path, manifest: str) -> None:
    """Creates the folder and writes its manifest, which shows whether the folder is writable."""
    with atomic_path(folder / "manifest.json") as temporary:
        temporary.write_text(manifest)
