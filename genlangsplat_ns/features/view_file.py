"""File format of one view's features: safetensors, read through a memory map.

Embeddings are stored as fp16. The region map is compressed with lzma: each level numbers its regions from 1, 0 means no
region, and the integer type is the smallest that fits.
"""

from __future__ import annotations

import json
import lzma
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genlangsplat_ns.utils.files import system_reason, write_tensors
from genlangsplat_ns.utils.json_files import integer_of, list_of, object_of, parse_json

LZMA_PRESET = 1
"""Higher presets save 3 % of the file size and take ten times as long."""

LZMA_MEMORY = 1 << 26
"""Bytes that unpacking may take; preset 1 needs one million."""

REGION_TYPES = ("uint8", "uint16", "uint32")

MAX_SIDE, MAX_NUMBERS, MAX_REGIONS = 1 << 16, 1 << 28, (1 << 31) - 1
"""A map with a longer side, more numbers or higher regions is damaged."""


@dataclass(frozen=True)
class ViewFeatures:
    """The regions of one view and their embeddings."""

    regions: Int32[Tensor, "levels height width"]
    """Row of `embeddings` for each level and pixel, -1 where there is no region."""
    embeddings: Float[Tensor, "num_regions embedding_dim"]
    """Unit vectors in the encoder's image-text space, one row for each region of any level."""


def write_view_file(path: Path, features: ViewFeatures, origin: list[str]) -> None:
    """Writes the features of a view. `read_view_file` compares `origin`, which identifies store and view.

    Raises:
        OSError: If the file cannot be written.
    """
    embeddings = features.embeddings.detach().cpu().half().contiguous()
    packed, layout = _pack(features.regions.cpu().numpy())
    # One metadata entry: safetensors writes several in arbitrary order, but equal features must give equal files.
    header = {"origin": origin, "regions": layout, "embeddings_crc": zlib.crc32(embeddings.numpy().tobytes())}
    write_tensors(path, {"embeddings": embeddings, "regions": packed}, {"view": json.dumps(header)})


def read_view_file(path: Path, origin: list[str], embedding_dim: int) -> ViewFeatures | str:
    """Returns the features with embeddings in float32, or the reason why the file is unusable."""
    try:
        # As arrays, because as tensors each of them leaves some bytes of memory behind (safetensors 0.8).
        with safe_open(path, framework="numpy") as file:
            header = object_of(parse_json((file.metadata() or {}).get("view", "")), "the entry view")
            if header.get("origin") != origin:
                return "was made for another view or with other settings"
            types = [file.get_slice(name).get_dtype() for name in ("embeddings", "regions")]
            if types != ["F16", "U8"]:
                return f"is damaged: its embeddings and regions are of the types {' and '.join(types)}"
            embeddings, packed = file.get_tensor("embeddings"), file.get_tensor("regions")
            if embeddings.ndim != 2 or zlib.crc32(embeddings.tobytes()) != header.get("embeddings_crc"):
                return "is damaged: its embeddings do not have the stored checksum"
            regions = _unpack(packed.tobytes(), object_of(header.get("regions"), "regions"))
            features = ViewFeatures(regions, torch.from_numpy(embeddings.astype(np.float32)))
        problem = feature_problem(features, embedding_dim)
        return features if problem is None else f"is damaged: {problem}"
    except FileNotFoundError:
        # safetensors says so whatever kept it from opening the file.
        return system_reason(path) or "cannot be read (the system refused to open it once)"
    except (OSError, ValueError, SafetensorError, lzma.LZMAError) as error:
        return system_reason(path) or f"is truncated or not a file of language features ({type(error).__name__})"


def feature_problem(features: ViewFeatures, embedding_dim: int) -> str | None:
    """Returns what is wrong with a view's features, or None."""
    regions, embeddings = features.regions, features.embeddings
    if embeddings.shape[1] != embedding_dim:
        return f"its embeddings have shape {tuple(embeddings.shape)}, expected regions x {embedding_dim}"
    if regions.numel() and not -1 <= int(regions.min()) <= int(regions.max()) < len(embeddings):
        return f"its regions range from {regions.min()} to {regions.max()}, but it has {len(embeddings)} embeddings"
    if not bool(embeddings.isfinite().all()):
        return "its embeddings contain values that are not finite"
    return None


def _pack(regions: Int32[NDArray[np.int32], "levels height width"]) -> tuple[UInt8[Tensor, " bytes"], dict[str, Any]]:
    """Compresses a region map; returns the bytes and their layout."""
    firsts = [int(level[level >= 0].min()) if (level >= 0).any() else 0 for level in regions]
    counted = np.where(regions >= 0, regions - np.array(firsts, dtype=np.int32)[:, None, None] + 1, 0)
    largest = int(counted.max(initial=0))
    kind = next(kind for kind in (np.uint8, np.uint16, np.uint32) if largest <= np.iinfo(kind).max)
    data = lzma.compress(counted.astype(np.dtype(kind).newbyteorder("<")).tobytes(), preset=LZMA_PRESET)
    layout = {"shape": list(regions.shape), "type": np.dtype(kind).name, "firsts": firsts}
    return torch.frombuffer(bytearray(data), dtype=torch.uint8), layout


def _unpack(packed: bytes, layout: dict[str, Any]) -> Int32[Tensor, "levels height width"]:
    """Undoes `_pack`; raises ValueError or LZMAError if the bytes or their layout are damaged."""
    if layout.get("type") not in REGION_TYPES:
        raise ValueError(f"its regions are of the type {layout.get('type')!r}")
    kind = np.dtype(layout["type"]).newbyteorder("<")
    shape = [integer_of(side, "a side", 0, MAX_SIDE) for side in list_of(layout.get("shape"), "shape")]
    firsts = [integer_of(first, "a first region", 0, MAX_REGIONS) for first in list_of(layout.get("firsts"), "firsts")]
    if len(shape) != 3 or len(firsts) != shape[0] or prod(shape) > MAX_NUMBERS:
        raise ValueError(f"its regions have the shape {shape} and {len(firsts)} levels")
    size = prod(shape) * kind.itemsize
    # One byte more than expected, so that a longer map is noticed.
    data = lzma.LZMADecompressor(memlimit=LZMA_MEMORY).decompress(packed, size + 1)
    if len(data) != size:
        raise ValueError(f"its regions unpack to {'more' if len(data) > size else 'less'} than {size:,} bytes")
    counted = np.frombuffer(data, kind).reshape(shape).astype(np.int64)
    regions = np.where(counted > 0, counted - 1 + np.array(firsts, dtype=np.int64).reshape(-1, 1, 1), -1)
    return torch.from_numpy(regions.clip(-1, MAX_REGIONS).astype(np.int32))
