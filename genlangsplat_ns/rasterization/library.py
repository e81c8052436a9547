"""Finds and loads the compiled CPU kernels."""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
import weakref
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any

import torch

from genlangsplat_ns.errors import GenLangSplatError

INSTRUCTION_SETS = ("avx512", "avx2", "baseline")
"""Builds of the kernels, fastest first."""

INTERFACE_VERSION = 8
"""The value of `gls_interface_version()` that this Python code requires."""

_HOW_TO_BUILD = (
    "Install a C++17 compiler (Debian, Ubuntu: `apt-get install g++`; macOS: `xcode-select --install`) and build "
    "again: `pip install --force-reinstall --no-deps genlangsplat-ns`, or `pip install --no-deps -e .` in a checkout."
)


class Camera(ctypes.Structure):
    """One pinhole camera, as `camera.h` declares it."""

    _fields_ = (
        ("rotation", ctypes.c_float * 9),
        ("translation", ctypes.c_float * 3),
        ("intrinsics", ctypes.c_float * 4),
        ("position", ctypes.c_float * 3),
        ("near_plane", ctypes.c_float),
        ("far_plane", ctypes.c_float),
        ("blur", ctypes.c_float),
        ("width", ctypes.c_float),
        ("height", ctypes.c_float),
    )


def _structure(name: str, **fields: type) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


_pointers = ctypes.c_void_p

Gaussians = _structure(
    "Gaussians",
    count=ctypes.c_int64,
    means=_pointers,
    quats=_pointers,
    scales=_pointers,
    opacities=_pointers,
    harmonics=_pointers,
    bases=ctypes.c_int64,
    degree=ctypes.c_int,
    compensated=ctypes.c_bool,
)
ProjectionOutputs = _structure(
    "ProjectionOutputs", **dict.fromkeys(("radii", "means2d", "depths", "conics", "opacities", "colors"), _pointers)
)
ProjectionGradients = _structure(
    "ProjectionGradients",
    **dict.fromkeys(("means2d", "depths", "conics", "opacities", "colors"), _pointers),
    **dict.fromkeys(("out_means", "out_quats", "out_scales", "out_opacities", "out_harmonics"), _pointers),
    out_camera=_pointers,
)
SplatInputs = _structure(
    "SplatInputs",
    count=ctypes.c_int64,
    width=ctypes.c_int,
    height=ctypes.c_int,
    **dict.fromkeys(("radii", "means2d", "depths", "conics", "opacities", "features"), _pointers),
    channels=ctypes.c_int64,
)
ForwardOutputs = _structure(
    "ForwardOutputs",
    features=_pointers,
    channels=ctypes.c_int64,
    background=_pointers,
    image=_pointers,
    alphas=_pointers,
    first_tile=ctypes.c_int64,
    tiles=ctypes.c_int64,
)
BackwardInputs = _structure(
    "BackwardInputs",
    features=_pointers,
    channels=ctypes.c_int64,
    **dict.fromkeys(("image", "alphas", "image_gradient", "alpha_gradient", "conics"), _pointers),
    count=ctypes.c_int64,
)
BackwardOutputs = _structure(
    "BackwardOutputs", **dict.fromkeys(("means2d", "conics", "opacities", "absolute", "features"), _pointers)
)

AttentionInputs = _structure(
    "AttentionInputs",
    **dict.fromkeys(("count", "dim"), ctypes.c_int64),
    latents=_pointers,
    **dict.fromkeys(("keys", "padded"), ctypes.c_int64),
    **dict.fromkeys(("directions", "biases", "products"), _pointers),
    prior=ctypes.c_float,
)
AttentionOutputs = _structure(
    "AttentionOutputs", **dict.fromkeys(("indices", "weights", "priors", "lengths"), _pointers)
)


def address(tensor: torch.Tensor | None) -> int | None:
    """The address of a contiguous tensor's first element; None stays None."""
    return None if tensor is None else tensor.data_ptr()


class Kernels:
    """The functions of one compiled library.

    Raises:
        GenLangSplatError: The file cannot be loaded, or was built from other sources.
    """

    def __init__(self, path: Path, instruction_set: str) -> None:
        self.instruction_set = instruction_set
        try:
            self._library = ctypes.CDLL(str(path))
            version = self._library.gls_interface_version()
        except (OSError, AttributeError) as error:
            raise GenLangSplatError(f"The CPU rasterizer {path} cannot be loaded: {error}. {_HOW_TO_BUILD}") from error
        if version != INTERFACE_VERSION:
            raise GenLangSplatError(
                f"The CPU rasterizer {path} has interface version {version}, expected {INTERFACE_VERSION}: it was "
                f"built from other sources. {_HOW_TO_BUILD}"
            )
        self._library.gls_last_error.restype = ctypes.c_char_p
        for name in ("gls_weights_count", "gls_weights_visits", "gls_weights_bytes"):
            getattr(self._library, name).restype = ctypes.c_int64
        for name in ("gls_scene_destroy", "gls_weights_destroy"):
            getattr(self._library, name).argtypes = (ctypes.c_void_p, ctypes.py_object)
        fork = openmp_fork()
        if fork is not None:
            self._library.gls_use_openmp(fork)

    def run(self, name: str, *arguments: object) -> None:
        """Calls `gls_<name>` on as many threads as torch uses.

        Raises:
            GenLangSplatError: The kernel ran out of memory or of 32-bit indices.
        """
        function = getattr(self._library, f"gls_{name}")
        if function(ctypes.c_int(torch.get_num_threads()), *arguments):
            reason = self._library.gls_last_error().decode().replace("std::bad_alloc", "there is too little memory")
            raise GenLangSplatError(
                f"The CPU rasterizer failed in {name}: {reason}. Use fewer Gaussians, a smaller image or fewer "
                "channels at once."
            )

    def call(self, name: str, *arguments: object) -> int:
        """Calls the function `gls_<name>`, which cannot fail, and returns its result."""
        result: int = getattr(self._library, f"gls_{name}")(*arguments)
        return result

    def own(self, owner: object, destroy: str, pointer: ctypes.c_void_p) -> None:
        """Makes `gls_<destroy>` free the memory behind the pointer when the owner is garbage collected.

        The viewer interrupts its render thread between any two lines of Python, also in destructors. So the callback of
        the weak reference runs no Python: it is a method object that passes pointer and reference to the library.
        """
        for key, reference in list(_OWNED.items()):
            if reference() is None:
                _OWNED.pop(key, None)
        callback = MethodType(getattr(self._library, f"gls_{destroy}"), ctypes.byref(pointer))
        reference = weakref.ref(owner, callback)
        _OWNED[id(reference)] = reference


_OWNED: dict[int, weakref.ref[object]] = {}
"""Weak references to the owners of kernel memory; the callbacks of dead ones have run."""


@cache
def openmp_fork() -> Any | None:
    """The function that starts threads in torch's OpenMP runtime; None if torch was built without one."""
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        path = Path(torch.__file__).parent / "lib" / name
        if path.is_file():
            # A symbol lookup in a library also searches the libraries that it is linked with, whatever their names.
            return getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
    return None


def supported_instruction_sets() -> tuple[str, ...]:
    """The builds that this CPU can run, installed or not, fastest first."""
    capability = torch.backends.cpu.get_cpu_capability()
    first = {"AVX512": 0, "AVX2": 1}.get(capability, 2)
    return INSTRUCTION_SETS[first:]


def available_instruction_sets() -> tuple[str, ...]:
    """The installed builds that this CPU can run, fastest first."""
    return tuple(name for name in supported_instruction_sets() if library_path(name) is not None)


def library_path(instruction_set: str) -> Path | None:
    """The file of a build; None if it is not installed."""
    names = (f"_kernels_{instruction_set}{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES)
    paths = (Path(__file__).with_name(name) for name in names)
    return next((path for path in paths if path.is_file()), None)


@cache
def _load(instruction_set: str) -> Kernels:
    path = library_path(instruction_set)
    if path is None:
        raise GenLangSplatError(
            f"The CPU rasterizer was not built for {instruction_set!r}: found no _kernels_{instruction_set} library in "
            f"{Path(__file__).parent}. {_HOW_TO_BUILD}"
        )
    return Kernels(path, instruction_set)


def load_kernels() -> Kernels:
    """Loads the fastest build that this CPU runs, or the one that the environment variable GENLANGSPLAT_ISA names.

    Raises:
        GenLangSplatError: There is no build, or the named one is unknown or missing.
    """
    wanted = os.environ.get("GENLANGSPLAT_ISA")
    if wanted:
        if wanted not in INSTRUCTION_SETS:
            raise GenLangSplatError(
                f"GENLANGSPLAT_ISA is {wanted!r}; expected one of {', '.join(INSTRUCTION_SETS)}. Change or unset it."
            )
        return _load(wanted)
    available = available_instruction_sets()
    if not available:
        raise GenLangSplatError(
            f"The CPU rasterizer is not built: found no _kernels_* library in {Path(__file__).parent}. {_HOW_TO_BUILD}"
        )
    return _load(available[0])
