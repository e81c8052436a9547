"""Embeddings on disk: `FOLDER/SOURCE/SCENE.safetensors`, one file per scene.

A file has one row per region: `embeddings` (fp16 unit vectors) and `levels`. Its metadata names the scene, its frames
with their numbers of rows in stored order, and the frames that failed; a hash covers the rows and the metadata. Rows
are read through memory maps. A scene gets a further file when frames are added later, or when it has very many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import StoreIdentity
from genlangsplat_ns.utils.files import atomic_path, safe_name, tensors_sha256, write_tensors
from genlangsplat_ns.utils.json_files import integer_of, object_of, parse_json, text_of

FORMAT = "genlangsplat-embeddings-1"

REPAIR = "Run `python -m pretrain extract` again, which makes damaged files anew, or delete the file."
"""Advice in errors about damaged files."""


class DamagedFileError(GenLangSplatError):
    """A file of embeddings is missing, truncated or changed."""


@dataclass(frozen=True)
class SceneFile:
    """The header of a file; `frames` has the number of rows of each frame, `failed` the reason of each failed one."""

    path: Path
    identity: StoreIdentity
    source: str
    scene: str
    frames: Mapping[str, int]
    failed: Mapping[str, str]
    sha256: str

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.frames.values())

    @classmethod
    def read(cls, path: Path) -> SceneFile:
        """Reads the metadata of a file, and checks its size and shapes.

        Raises:
            DamagedFileError: If the file is missing, truncated or damaged.
            GenLangSplatError: If it is intact but has other content.
        """
        with _reading(path):
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
            if metadata.get("format") != FORMAT:
                raise GenLangSplatError(
                    f"{path} is no file of embeddings of this version (its format is {metadata.get('format')}, "
                    f"expected {FORMAT}). Choose another folder, and extract the embeddings into it."
                )
            content = object_of(parse_json(metadata.get("content", "")), "the content")
            identity = StoreIdentity.from_json(object_of(content.get("identity"), "identity"))
            frames, failed = (object_of(content.get(name), name) for name in ("frames", "failed"))
            found = cls(
                path,
                identity,
                text_of(content.get("source"), "source"),
                text_of(content.get("scene"), "scene"),
                {key: integer_of(rows, "the rows of a frame") for key, rows in frames.items()},
                {key: text_of(reason, "a reason") for key, reason in failed.items()},
                metadata.get("sha256", ""),
            )
            expected = {"embeddings": [found.rows, identity.embedding_dim], "levels": [found.rows]}
        if shapes != expected:
            raise DamagedFileError(f"{path} is damaged: it has {shapes}, expected {expected}. {REPAIR}")
        return found

    def verify(self) -> None:
        """Reads all rows.

        Raises:
            DamagedFileError: If rows or metadata do not have the stored hash, or an embedding is zero or not finite.
        """
        with _reading(self.path):
            tensors = load_file(self.path)
        if tensors_sha256(tensors, self._content) != self.sha256:
            raise DamagedFileError(f"{self.path} is damaged: its content does not have the stored hash. {REPAIR}")
        norms = torch.linalg.vector_norm(tensors["embeddings"].float(), dim=1)
        if not bool(((norms > 0) & norms.isfinite()).all()):
            raise DamagedFileError(f"{self.path} has embeddings that are zero or not finite. {REPAIR}")

    def embeddings(self, first: int = 0, last: int | None = None) -> Float16[Tensor, "rows embedding_dim"]:
        """Returns a memory map of the rows from `first` to before `last`; raises DamagedFileError if it is gone."""
        return self._map("embeddings", first, last)

    def levels(self) -> UInt8[Tensor, " rows"]:
        """Returns the index of each row's level; raises DamagedFileError if the file is gone."""
        return self._map("levels", 0, None)

    @property
    def _content(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if name not in ("path", "sha256")})

    def _map(self, name: str, first: int, last: int | None) -> Tensor:
        with _reading(self.path), safe_open(self.path, framework="pt") as file:
            return file.get_slice(name)[first:last]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Converts errors of the block, which reads a file, into DamagedFileError."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise DamagedFileError(f"{path} is missing, truncated or damaged ({error}). {REPAIR}") from error


def source_path(folder: Path, source: str) -> Path:
    """Returns the folder of the files of a source."""
    return folder / _file_name(source)


def _file_name(name: str) -> str:
    return safe_name(name, keep_case=True)[:100]


def scene_paths(folder: Path) -> list[Path]:
    """Returns the sorted paths of all files of embeddings below a folder."""
    return sorted(path for path in folder.rglob("*.safetensors") if not path.name.startswith("."))


def read_folders(folders: Sequence[Path], verify: bool = True) -> list[SceneFile]:
    """Reads the headers of all files in some folders, and all rows to verify them.

    Raises:
        GenLangSplatError: If a folder has no files, a file is damaged, or the files are of different encoders.
    """
    files: list[SceneFile] = []
    damaged: list[str] = []
    for folder in folders:
        paths = scene_paths(folder)
        if not paths:
            raise GenLangSplatError(
                f"{folder} contains no embeddings. Create them with `python -m pretrain extract`, or give another "
                "folder."
            )
        for path in paths:
            try:
                files.append(SceneFile.read(path))
                if verify:
                    files[-1].verify()
            except DamagedFileError as error:
                damaged.append(str(error).removesuffix(f" {REPAIR}"))
    if damaged:
        raise DamagedFileError(" ".join([*damaged, REPAIR]))
    for file in files:
        one, two = files[0].identity, file.identity
        if (one.encoder_identity, one.embedding_dim) != (two.encoder_identity, two.embedding_dim):
            raise GenLangSplatError(
                f"{files[0].path} contains embeddings of {one.encoder_identity} with {one.embedding_dim} dimensions, "
                f"{file.path} of {two.encoder_identity} with {two.embedding_dim}. Give folders of one encoder."
            )
    return files


def write_scene(
    folder: Path,
    identity: StoreIdentity,
    source: str,
    scene: str,
    frames: Mapping[str, tuple[Float16[Tensor, "_ embedding_dim"], UInt8[Tensor, " _"]]],
    failed: Mapping[str, str],
) -> SceneFile:
    """Writes a file of a scene atomically, under a name that is not taken; raises GenLangSplatError if it cannot.

    `frames` has the unit vectors and levels of each frame by key, `failed` the reason of each failed frame.
    """
    stem, number = _file_name(scene), 1
    path = source_path(folder, source) / f"{stem}.safetensors"
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}-{number}.safetensors")
    nothing = torch.zeros(0, identity.embedding_dim, dtype=torch.float16), torch.zeros(0, dtype=torch.uint8)
    embeddings, levels = map(torch.cat, zip(nothing, *frames.values(), strict=True))
    tensors = {"embeddings": embeddings, "levels": levels}
    rows = {key: len(levels) for key, (_, levels) in frames.items()}
    file = SceneFile(path, identity, source, scene, rows, dict(failed), "")
    content = file._content
    metadata = {"format": FORMAT, "content": content, "sha256": tensors_sha256(tensors, content)}
    try:
        with atomic_path(path) as temporary:
            write_tensors(temporary, tensors, metadata)
    except OSError as error:
        raise GenLangSplatError(
            f"{path} could not be written ({error}). All earlier scenes are stored. Free disk space or fix the "
            "permissions, then run the same command again to continue."
        ) from error
    return SceneFile.read(path)


@dataclass(frozen=True)
class RowSample:
    """A sample of rows in stored order: unit vectors, indices of levels, and names of sources."""

    embeddings: Float[Tensor, "count embedding_dim"]
    levels: UInt8[Tensor, " count"]
    sources: list[str]


def read_rows(files: Sequence[SceneFile], max_rows: int = 100_000, seed: int = 0) -> RowSample:
    """Reads a uniform random sample of at most `max_rows` rows.

    Raises:
        GenLangSplatError: If there are no rows, or a file is damaged.
    """
    total = sum(file.rows for file in files)
    if total == 0:
        raise GenLangSplatError("The chosen scenes have no embeddings. Choose others, or extract more.")
    chosen = np.sort(np.random.default_rng(seed).choice(total, min(max_rows, total), replace=False))
    embeddings, levels, sources, first = [], [], [], 0
    for file in files:
        rows = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + file.rows)] - first
        first += file.rows
        if len(rows):
            index = torch.from_numpy(rows)
            embeddings.append(F.normalize(file.embeddings()[index].float(), dim=-1))
            levels.append(file.levels()[index])
            sources += [file.source] * len(rows)
    return RowSample(torch.cat(embeddings), torch.cat(levels), sources)
