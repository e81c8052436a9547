"""Language features on disk: one file per view, in one folder per choice of encoder and masks.

A file is named after its view and a hash of the view's pixels, so a view that comes in another size or undistorted
otherwise gets a file of its own and leaves the others alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock, Timeout
from jaxtyping import UInt8
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.view_file import ViewFeatures, feature_problem, read_view_file, write_view_file
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path

__all__ = ["FeatureStore", "ViewFeatures"]

FORMAT_VERSION = 2
"""Version of the files' layout; it enters the folder's name."""


@dataclass(frozen=True)
class StoreIdentity:
    """Whose features a store holds; its hash keeps stores apart.

    Attributes:
        encoder: Short name of the encoder.
        encoder_identity: Name, model and version of the encoder.
        embedding_dim: Length of an embedding.
        masks: Short name of the mask generator.
        mask_settings: All that shapes its masks.
        levels: Names of the levels that were extracted.
    """

    encoder: str
    encoder_identity: str
    embedding_dim: int
    masks: str
    mask_settings: Mapping[str, str | int | float]
    levels: tuple[str, ...]

    @property
    def manifest(self) -> str:
        """What the store's folder says about itself."""
        fields = {**vars(self), "mask_settings": dict(self.mask_settings), "format_version": FORMAT_VERSION}
        return json.dumps(fields, indent=2, sort_keys=True, default=str) + "\n"

    @property
    def digest(self) -> str:
        """Hash of everything above."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()


class FeatureStore:
    """A folder of view features that all come from one encoder and one set of masks; made by `FeatureStore.open`.

    Attributes:
        folder: Where new files are written.
        identity: Whose features they are.
    """

    def __init__(self, folder: Path, identity: StoreIdentity, read_only: Path | None = None) -> None:
        self.folder = folder
        self.identity = identity
        self._read_only = read_only

    @classmethod
    def open(cls, root: Path, identity: StoreIdentity) -> FeatureStore:
        """Opens, and where needed makes, the store of one data folder.

        Args:
            root: The data folder. When it cannot be written, what it holds is read, and the user's cache folder takes
                what is new; the console says so.
            identity: Encoder and masks.

        Raises:
            GenLangSplatError: If `root` is no folder, or neither it nor the cache folder can be written.
        """
        if not root.is_dir():
            raise GenLangSplatError(f"{root} is not a folder. Give the folder of the scene's data.")
        name = f"{_safe_name(identity.encoder)}-{_safe_name(identity.masks)}-{identity.digest[:12]}"
        beside_data = root / "language_features" / name
        data_hash = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        in_cache = Path(platformdirs.user_cache_dir("genlangsplat-ns")) / data_hash / name
        try:
            _prepare_folder(beside_data, identity.manifest)
            return cls(beside_data, identity)
        except OSError as data_error:
            try:
                _prepare_folder(in_cache, identity.manifest)
            except OSError as cache_error:
                raise GenLangSplatError(
                    f"Language features can be written neither to {beside_data} ({data_error.strerror}) nor to "
                    f"{in_cache} ({cache_error.strerror}). "
                    "Make one of them writable, for example by setting XDG_CACHE_HOME."
                ) from cache_error
            CONSOLE.print(
                f"[yellow]{escape(str(beside_data))} cannot be written ({data_error.strerror}); "
                f"new language features go to {escape(str(in_cache))}."
            )
            return cls(in_cache, identity, read_only=beside_data)

    @classmethod
    def existing(cls, folder: Path) -> FeatureStore:
        """Takes up a store where it lies, by what its folder says about itself; nothing is written.

        Args:
            folder: The store's own folder, which holds `manifest.json`.

        Raises:
            GenLangSplatError: If there is no such manifest, or it is damaged or of another version.
        """
        path = folder / "manifest.json"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            version = fields.pop("format_version")
            identity = StoreIdentity(**{**fields, "levels": tuple(fields["levels"])})
        except FileNotFoundError as error:
            below = sorted(str(found.parent) for found in folder.glob("**/language_features/*/manifest.json"))
            raise GenLangSplatError(
                f"{folder} is no feature store: it holds no manifest.json. "
                + (f"Below it lies {' and '.join(below[:3])}; give that." if below else "Extract features first.")
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise GenLangSplatError(
                f"{path} is damaged ({type(error).__name__}: {error}). Extract the features of this scene again."
            ) from error
        if version != FORMAT_VERSION:
            raise GenLangSplatError(
                f"{folder} is a feature store of version {version}, but version {FORMAT_VERSION} is read here. "
                "Extract the features of this scene again."
            )
        return cls(folder, identity)

    def keys(self) -> list[str]:
        """The keys of all views with a file, sorted; whether a file can be used shows when it is loaded."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.safetensors"))

    @contextmanager
    def writing(self) -> Iterator[bool]:
        """Keeps other processes from writing to the folder meanwhile, and clears what killed ones have left.

        A second process waits until the first is done, and then finds its files. The lock of a process that was killed
        is released by the system.

        Yields:
            Whether another process was writing until now.
        """
        lock, waited = FileLock(self.folder / ".lock"), False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            CONSOLE.print(f"Another process is extracting into {escape(str(self.folder))}; waiting until it is done.")
            lock.acquire()
        try:
            for leftover in self.folder.glob(".*-????????.safetensors"):
                leftover.unlink(missing_ok=True)
            yield waited
        finally:
            lock.release()

    def forget_if_empty(self) -> None:
        """Removes the folder again if nothing was ever stored in it, so that failed commands leave none behind."""
        if [path.name for path in self.folder.iterdir()] == ["manifest.json"]:
            (self.folder / "manifest.json").unlink()
            self.folder.rmdir()
            if not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()

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
            GenLangSplatError: If the features do not fit the store or each other, or cannot be written.
        """
        problem = feature_problem(features, self.identity.embedding_dim)
        if problem is not None:
            raise GenLangSplatError(f"The features of view {key} cannot be stored: {problem}.")
        path = self.folder / f"{key}.safetensors"
        try:
            with atomic_path(path) as temporary:
                write_view_file(temporary, features, [self.identity.digest, key])
        except OSError as error:
            raise GenLangSplatError(
                f"{path} could not be written ({error.strerror or error}). The views before it are stored; make room "
                "or give access, and run the same command again: it goes on from there."
            ) from error

    def _path(self, key: str) -> Path:
        path = self.folder / f"{key}.safetensors"
        if self._read_only is not None and not path.exists():
            path = self._read_only / path.name
        return path

    def _read(self, key: str) -> ViewFeatures | str:
        """Returns the features, or in words why the file cannot be used."""
        features = read_view_file(self._path(key), [self.identity.digest, key])
        if isinstance(features, str):
            return features
        problem = feature_problem(features, self.identity.embedding_dim)
        return features if problem is None else f"is damaged: {problem}"


def _prepare_folder(folder: Path, manifest: str) -> None:
    """Makes the folder, proves that it can be written, and puts its manifest there."""
    path = folder / "manifest.json"
    with atomic_path(path) as temporary:
        temporary.write_text(manifest)


def _safe_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", name).lstrip(".") or "_"
