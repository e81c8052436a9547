"""What is installed, whether the kernels build, and the tests that need a card."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from importlib import metadata
from importlib.util import find_spec

from gpu.check import ROOT, last_line
from gpu.part import Settings

IMPORTED = (
    *("torch", "torchvision", "numpy", "scipy", "sklearn", "skimage", "cv2", "PIL", "matplotlib", "gsplat"),
    *("nerfstudio", "nerfacc", "viser", "tyro", "jaxtyping", "beartype", "plyfile", "fpsample", "open_clip"),
    *("safetensors", "tensorboard", "torchmetrics", "pytest", "pytest_timeout", "efficientnet_lite_pytorch"),
)
"""Packages that the parts import."""

TESTS = (
    "tests/rasterization/test_gsplat_contract.py",
    "tests/end_to_end/test_devices.py",
    "tests/language/test_attention.py",
    "tests/pretrain/test_training.py",
)
"""Files with tests that are marked `gpu`."""


def environment(settings: Settings) -> None:
    """Reports versions and the card, and names missing packages."""
    import torch

    for name in ("torch", "gsplat", "nerfstudio", "numpy"):
        settings.report(name, _version(name))
    settings.report("CUDA of torch", torch.version.cuda or "none")
    if settings.on_cuda:
        card = torch.cuda.get_device_properties(0)
        settings.report("card", card.name)
        settings.report("capability", f"{card.major}.{card.minor}")
        settings.report("memory of the card", card.total_memory / 1e9, "GB")
    missing = [name for name in IMPORTED if find_spec(name) is None]
    settings.report("missing packages", ", ".join(missing) or "none")
    if missing:
        raise ModuleNotFoundError(f"missing packages: {', '.join(missing)}")
    if not _version("numpy").startswith("1."):
        raise ImportError(f"numpy is {_version('numpy')}, expected below 2")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def build(settings: Settings) -> None:
    """Builds the CPU kernels if they are missing, and loads or builds those of gsplat."""
    from genlangsplat_ns.errors import GenLangSplatError
    from genlangsplat_ns.rasterization import library

    start = time.monotonic()
    try:
        library.load_kernels()
    except GenLangSplatError:
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=True)
    settings.report("CPU kernels", library.load_kernels().instruction_set)
    settings.report("CPU kernels ready", time.monotonic() - start, "s")
    if not settings.on_cuda:
        return
    compiled = find_spec("gsplat.csrc") is not None
    start = time.monotonic()
    from gsplat.cuda._backend import _C

    if _C is None:
        raise RuntimeError("gsplat found neither its kernels nor nvcc")
    settings.report("gsplat's kernels", "compiled before" if compiled else "compiled here")
    settings.report("gsplat's kernels ready", time.monotonic() - start, "s")


def tests(settings: Settings) -> None:
    """Runs the tests that need a card; elsewhere they are skipped."""
    log = settings.folder / "pytest.log"
    chosen = TESTS[:1] if settings.quick else TESTS
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *chosen]
    with log.open("wb") as stream:
        code = subprocess.run(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT).returncode
    closing = last_line(log)
    for outcome in ("passed", "failed", "skipped"):
        found = re.search(rf"(\d+) {outcome}", closing)
        settings.report(outcome, int(found.group(1)) if found else 0, "tests")
    if code != 0:
        raise RuntimeError(f"pytest: {closing} (see {log})")
