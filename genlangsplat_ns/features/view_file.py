"""The file of one view's features: safetensors, read through a memory map.

Embeddings lie there as fp16. The map of regions is packed by lzma: every level counts its regions from 1, in the
smallest integers that hold them, and 0 is no region.
"""

from __future__ import annotations

import json
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

PACKING_EFFORT = 1
"""lzma's preset; more effort saves 3 % of the file and takes ten times as long."""


@dataclass(frozen=True)
class ViewFeatures:
    """The regions of one view and what they mean.

    Attributes:
        regions: For every level and pixel the row of `embeddings`, or -1 where there is no region.
        embeddings: Unit vectors in the encoder's image-text space. Rows are numbered through all levels of the view.
    """

    regions: Int32[Tensor, "levels height width"]
    embeddings: Float[Tensor, "num_regions embedding_dim"]


def write_view_file(path: Path, features: ViewFeatures, origin: list[str]) -> None:
    """Writes features; `origin` says whose they are and is asked for when they are read.

    Raises:
        OSError: If the file cannot be written.
    """
    embeddings = features.embeddings.detach().cpu().half().contiguous()
    packed, layout = _pack(features.regions.cpu().numpy())
    # All in one entry, because safetensors writes several in any order, and equal features shall give equal files.
    header = {"origin": origin, "regions": layout, "embeddings_crc": zlib.crc32(embeddings.numpy().tobytes())}
    # Written here and not by the library, which hides the file from other users and the reason of a failure from us.
    path.write_bytes(save({"embeddings": embeddings, "regions": packed}, metadata={"view": json.dumps(header)}))


def read_view_file(path: Path, origin: list[str]) -> ViewFeatures | str:
    """Returns the features, embeddings as float32, or in words why the file cannot be used."""
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["view"])
            if header["origin"] != origin:
                return "was made for another view or with other settings"
            embeddings, packed = file.get_tensor("embeddings"), file.get_tensor("regions")
            if (
                embeddings.dtype != torch.float16
                or zlib.crc32(embeddings.numpy().tobytes()) != header["embeddings_crc"]
            ):
                return "is damaged: its embeddings are not those that were written"
            return ViewFeatures(_unpack(packed, header["regions"]), embeddings.float())
    except FileNotFoundError:
        return "does not exist"
    except (OSError, EOFError, ValueError, TypeError, KeyError, SafetensorError, lzma.LZMAError) as error:
        return f"is truncated or not a file of language features ({type(error).__name__})"


def feature_problem(features: ViewFeatures, embedding_dim: int) -> str | None:
    """Says what is wrong with a view's features, or nothing."""
    regions, embeddings = features.regions, features.embeddings
    if embeddings.shape[1] != embedding_dim:
        return f"its embeddings are {tuple(embeddings.shape)}, not regions x {embedding_dim}"
    if regions.numel() and not -1 <= int(regions.min()) <= int(regions.max()) < len(embeddings):
        return f"its regions run from {regions.min()} to {regions.max()}, but it has {len(embeddings)} embeddings"
    if not bool(embeddings.isfinite().all()):
        return "its embeddings hold values that are not finite"
    return None


def _pack(regions: Int32[np.ndarray, "levels height width"]) -> tuple[UInt8[Tensor, " bytes"], dict[str, Any]]:
    """Packs a map of regions, and says how it is laid out."""
    firsts = [int(level[level >= 0].min()) if (level >= 0).any() else 0 for level in regions]
    counted = np.where(regions >= 0, regions - np.array(firsts, dtype=np.int32)[:, None, None] + 1, 0)
    largest = int(counted.max(initial=0))
    kind = next(kind for kind in (np.uint8, np.uint16, np.uint32) if largest <= np.iinfo(kind).max)
    data = lzma.compress(counted.astype(np.dtype(kind).newbyteorder("<")).tobytes(), preset=PACKING_EFFORT)
    layout = {"shape": list(regions.shape), "type": np.dtype(kind).name, "firsts": firsts}
    return torch.frombuffer(bytearray(data), dtype=torch.uint8), layout


def _unpack(packed: Tensor, layout: dict[str, Any]) -> Int32[Tensor, "levels height width"]:
    data = np.frombuffer(lzma.decompress(packed.numpy().tobytes()), np.dtype(layout["type"]).newbyteorder("<"))
    counted = data.reshape(layout["shape"]).astype(np.int32)
    firsts = np.array(layout["firsts"], dtype=np.int32)[:, None, None]
    return torch.from_numpy(np.where(counted > 0, counted - 1 + firsts, -1).astype(np.int32))
