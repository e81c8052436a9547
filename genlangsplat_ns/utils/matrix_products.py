"""Products of matrices on the CPU at the speed the CPU has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def onednn_matmul() -> Iterator[None]:
    """Lets torch hand fp32 products to oneDNN inside the block: up to twice as fast on AMD processors.

    torch computes them with MKL, which falls short there, by half on some. It takes oneDNN for them when bf16
    inside the product is allowed; but oneDNN has a use for bf16 only where there are matrix tiles (AMX), and computes
    in fp32 elsewhere. With tiles, where results would change, nothing is switched: MKL is fast on those processors.
    """
    # torch has no public question for tiles, and releases before 2.9 lack one of the two or both.
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    has_tiles: Any = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if not torch.backends.mkldnn.is_available() or matmul is None or has_tiles is None or has_tiles():
        yield
        return
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
