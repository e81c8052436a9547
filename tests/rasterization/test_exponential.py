"""On every build, the error of exp2 stays below the bound in simd.h."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.rasterization.compilation import compile_library

LOG = logging.getLogger(__name__)

STATED_ERROR = 3e-7
PIECES = 16


@pytest.fixture
def worst_error(instruction_set: str, tmp_path: Path) -> Callable[[float, float, int], float]:
    """Computes the largest relative error over every n-th float between two numbers of one sign."""
    source = Path(__file__).with_name("exponential.cpp")
    function = ctypes.CDLL(str(compile_library(source, tmp_path / "exponential.so", instruction_set))).worst_error
    function.restype = ctypes.c_double

    def measure_piece(first: int, last: int, step: int) -> tuple[float, float]:
        where = ctypes.c_float()
        error = function(ctypes.c_uint32(first), ctypes.c_uint32(last), ctypes.c_uint32(step), ctypes.byref(where))
        return error, where.value

    def measure(first: float, last: float, step: int) -> float:
        bits = [int(np.float32(value).view(np.uint32)) for value in (first, last)]
        limits = np.linspace(*bits, PIECES + 1).astype(np.int64).tolist()
        with ThreadPoolExecutor() as pool:
            pieces = pool.map(measure_piece, limits[:-1], limits[1:], [step] * PIECES)
            error, where = max(pieces)
        LOG.info(
            "%s: the largest relative error from %g to %g is %.3g, at %.9g", instruction_set, first, last, error, where
        )
        return error

    return measure


@pytest.mark.parametrize("last", [126.0, -126.0])
def test_the_error_is_below_the_stated_bound_on_a_dense_grid(worst_error, last: float) -> None:
    assert worst_error(np.copysign(0.0, last), last, 23) < STATED_ERROR


def test_the_error_is_below_the_stated_bound_at_every_float_of_the_rasterizer(worst_error) -> None:
    assert worst_error(-0.0, -8.0, 1) < STATED_ERROR
