"""Checks of an installation. Each stands alone, so that a broken part does not hide the others."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from genlangsplat_ns.errors import GenLangSplatError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from genlangsplat_ns.features.published_weights import PublishedWeights

PACKAGE = "genlangsplat-ns"

INSTALL = 'pip install "genlangsplat-ns[embedded]"'

SHOWN = ("nerfstudio", "gsplat", "torch", "numpy", "open_clip_torch", "segment-anything")
"""Packages with a line of their own; the others share one."""

DEVELOPERS = ("docs", "dev")
"""Extras that no user needs."""

BROKEN = (
    GenLangSplatError,
    ImportError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    NameError,
    LookupError,
    AssertionError,
    SyntaxError,
)
"""What a part of a broken installation raises when it is imported or used."""


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    name: str
    state: Literal["ok", "warning", "missing"]
    found: str
    remedy: str = ""
    """The command, or the sentence, that mends it."""
    stops: bool = False
    """Whether neither method works without it."""


Check = Callable[[], Iterable[Finding]]


def check_installation(checks: Iterable[tuple[str, Check, bool]] | None = None) -> list[Finding]:
    """Runs checks, all of this module by default; one that fails becomes a finding that says so.

    Each check has a name, and says whether neither method works if it fails.
    """
    found: list[Finding] = []
    for name, check, stops in CHECKS if checks is None else checks:
        try:
            # What other packages say of their own future is no finding.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                found.extend(check())
        except BROKEN as error:
            found.append(failure(name, error, stops))
    return found


def failure(name: str, error: BaseException, stops: bool) -> Finding:
    """Describes a check that could not be finished."""
    if isinstance(error, GenLangSplatError):
        return Finding(name, "missing", str(error), stops=stops)
    reason = (str(error).strip() or "no reason is given").splitlines()[0]
    return Finding(name, "missing", f"{type(error).__name__}: {reason}", INSTALL, stops)


def check_versions() -> Iterator[Finding]:
    """Compares Python and the installed packages with what the package requires."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    own = metadata.metadata(PACKAGE)
    python = ".".join(map(str, sys.version_info[:3]))
    if python in SpecifierSet(own["Requires-Python"]):
        yield Finding("python", "ok", python)
    else:
        yield Finding("python", "warning", f"{python}, expected {own['Requires-Python']}", "Install another Python.")
    yield Finding(PACKAGE, "ok", own["Version"])
    requirements = [Requirement(text) for text in metadata.requires(PACKAGE) or ()]
    always = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    optional = [(item, item.marker) for item in requirements if item.marker is not None and item not in always]
    others = []
    for item in always:
        finding = _package(item.name, item.specifier)
        if item.name in SHOWN or finding.state != "ok":
            yield finding
        else:
            others.append(f"{item.name} {finding.found}")
    yield Finding("other packages", "ok", ", ".join(others))
    for extra in (name for name in own.get_all("Provides-Extra") or () if name not in DEVELOPERS):
        packages = [item for item, marker in optional if marker.evaluate({"extra": extra})]
        missing = [item.name for item in packages if _package(item.name, item.specifier).state == "missing"]
        if missing:
            advice = f'pip install "{PACKAGE}[{extra}]"'
            yield Finding(f"extra {extra}", "missing", ", ".join(missing), advice)
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(item.name for item in packages))


def _package(name: str, versions: SpecifierSet) -> Finding:
    """Looks up an installed package, and compares its version."""
    advice = f'pip install "{name}{versions}"'
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", "not installed", advice)
    if version not in versions:
        return Finding(name, "warning", f"{version}, expected {versions}", advice)
    return Finding(name, "ok", version)


def check_methods() -> Iterator[Finding]:
    """Loads the methods like nerfstudio does."""
    entries = metadata.entry_points(group="nerfstudio.method_configs")
    own = {entry.name: entry.load() for entry in entries if entry.value.startswith("genlangsplat_ns.")}
    if own:
        yield Finding("methods", "ok", ", ".join(sorted(own)))
    else:
        yield Finding("methods", "missing", "nerfstudio finds no method of this package", INSTALL, stops=True)


def check_device() -> Iterator[Finding]:
    """Looks for a GPU that torch and gsplat can use."""
    import torch

    driver = first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    if not torch.cuda.is_available():
        if driver is None:
            yield Finding("device", "ok", "no NVIDIA GPU; gen-langsplat-lite trains on the CPU")
        else:
            built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
            found = f"driver {driver}, but torch {torch.__version__} {built} and does not see the GPU"
            yield Finding("device", "warning", found, "pip install --force-reinstall torch torchvision")
        return
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        found = f"{card.name}, {card.total_memory / 1e9:.0f} GB, capability {card.major}.{card.minor}"
        yield Finding(f"cuda:{number}", "ok", f"{found}, CUDA {torch.version.cuda}, driver {driver or 'unknown'}")
    if find_spec("gsplat.csrc") is not None:
        yield Finding("gsplat's kernels", "ok", "compiled")
    elif compiler := first_line("nvcc", "--version", line=-1):
        yield Finding("gsplat's kernels", "ok", f"compiled at first use, with nvcc ({compiler})")
    else:
        advice = (
            f"Install the CUDA {torch.version.cuda} toolkit, or a compiled gsplat from https://docs.gsplat.studio/whl."
        )
        yield Finding("gsplat's kernels", "missing", "neither compiled nor nvcc to compile them", advice, stops=True)


def check_kernels() -> Iterator[Finding]:
    """Loads the CPU kernels like the rasterizer does."""
    import torch

    from genlangsplat_ns.rasterization import library

    fastest = library.supported_instruction_sets()[0]
    try:
        loaded = library.load_kernels().instruction_set
    except GenLangSplatError as error:
        yield failure("CPU kernels", error, stops=not torch.cuda.is_available())
        return
    found = f"{loaded} loaded; this CPU runs {fastest}; threads: {torch.get_num_threads()}"
    if loaded == fastest:
        yield Finding("CPU kernels", "ok", found)
    else:
        advice = "Unset GENLANGSPLAT_ISA; if it is not set, install g++ and build again: pip install --no-deps -e ."
        yield Finding("CPU kernels", "warning", found, advice)


def check_programs() -> Iterator[Finding]:
    """Looks for a compiler and ffmpeg."""
    compiler = next(filter(None, (first_line(name, "--version") for name in ("c++", "g++", "clang++"))), None)
    ffmpeg = first_line("ffmpeg", "-version")
    for name, found, purpose, package in (
        ("compiler", compiler, "to build the CPU kernels", "g++"),
        ("ffmpeg", ffmpeg, "for videos", "ffmpeg"),
    ):
        if found:
            yield Finding(name, "ok", found.split(" Copyright")[0])
        else:
            yield Finding(name, "missing", f"needed only {purpose}", f"apt-get install {package}")


def first_line(*command: str, line: int = 0) -> str | None:
    """Returns a line of what a program prints; None if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[line] if lines and done.returncode == 0 else None


def check_weights() -> Iterator[Finding]:
    """Looks for weights where masks and encoder do; other models than the default of sam are optional."""
    from genlangsplat_ns.features.published_weights import published_weights
    from genlangsplat_ns.features.sam_weights import OFFICIAL_CHECKPOINTS, SAM2_CHECKPOINTS
    from genlangsplat_ns.features.settings import SamSettings

    for model in OFFICIAL_CHECKPOINTS:
        weights = published_weights("sam", model)
        if weights.found or model == SamSettings().model:
            yield _weights(weights, f"gen-langsplat fetch-weights sam --sam-model {model}")
    for model in SAM2_CHECKPOINTS:
        weights = published_weights("sam2", model)
        if weights.found:
            yield _weights(weights, f"gen-langsplat fetch-weights sam2 --sam2-model {model}")
    yield _weights(published_weights("openclip"), "gen-langsplat fetch-weights openclip")


def _weights(weights: PublishedWeights, remedy: str) -> Finding:
    if weights.found is None:
        found = f"{weights.gigabytes:.2f} GB, expected in {weights.target.parent}"
        return Finding(weights.name, "missing", found, remedy)
    found = f"{weights.found}, {weights.found.stat().st_size / 1e9:.2f} GB, sha256 "
    if weights.is_whole:
        return Finding(weights.name, "ok", f"{found}{weights.found_sha256[:12]}... as published")
    return Finding(weights.name, "warning", f"{found}is not the published {weights.found_sha256[:12]}...", remedy)


def check_autoencoders() -> Iterator[Finding]:
    """Reads the identity of every autoencoder that has a name, which checks its hash."""
    from genlangsplat_ns.language.autoencoder import read_identity
    from genlangsplat_ns.language.named_autoencoders import named_autoencoders
    from genlangsplat_ns.utils.files import file_sha256

    for name, path in named_autoencoders().items():
        try:
            identity = read_identity(path)
        except GenLangSplatError as error:
            yield Finding(f"autoencoder {name}", "warning", str(error), f"Delete {path}, or export it again.")
            continue
        found = f"{path}, {identity.embedding_dim} -> {identity.latent_dim} for {identity.encoder}"
        yield Finding(f"autoencoder {name}", "ok", f"{found}, sha256 {file_sha256(path)[:12]}...")


def check_choice() -> Iterator[Finding]:
    """Asks what training takes for encoder, masks and autoencoder by default."""
    import torch

    from genlangsplat_ns.features.extractor import FeatureExtractor
    from genlangsplat_ns.features.settings import FeatureSettings
    from genlangsplat_ns.language.named_autoencoders import AUTO, scene_autoencoder
    from genlangsplat_ns.language.projection import is_projection

    extractor = FeatureExtractor(FeatureSettings(), "cuda" if torch.cuda.is_available() else "cpu")
    yield Finding("auto: encoder, masks", "ok", extractor.choice)
    try:
        extractor.load_text_encoder().encode_texts(["a cup"])
    except BROKEN as error:
        yield failure(f"encoder {extractor.encoder_name}", error, stops=True)
    else:
        yield Finding(f"encoder {extractor.encoder_name}", "ok", f"answers; identity {extractor.encoder_identity}")
    identity = scene_autoencoder(AUTO, extractor.encoder_identity, extractor.embedding_dim).identity
    if is_projection(identity):
        found = f"{identity.name}, because no named autoencoder is for {identity.encoder}"
        yield Finding("auto: autoencoder", "warning", found, "python -m pretrain train (optional: the memory decodes)")
    else:
        yield Finding("auto: autoencoder", "ok", f"{identity.name}, the first named one for {identity.encoder}")


CHECKS: tuple[tuple[str, Check, bool], ...] = (
    ("versions", check_versions, False),
    ("methods", check_methods, True),
    ("device", check_device, True),
    ("CPU kernels", check_kernels, False),
    ("programs", check_programs, False),
    ("weights", check_weights, False),
    ("autoencoders", check_autoencoders, False),
    ("auto", check_choice, True),
)
"""Name, function, and whether neither method works if it fails."""
