"""The checks of an installation, in whole and in broken ones."""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import platformdirs
import pytest
import torch
import tyro
from packaging.requirements import Requirement

from genlangsplat_ns.cli import COMMANDS
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import encoders
from genlangsplat_ns.features import published_weights as published
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.sam_weights import OFFICIAL_CHECKPOINTS, OfficialCheckpoint, weights_folder
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.installation.checks import (
    INSTALL,
    Check,
    Finding,
    check_autoencoders,
    check_choice,
    check_device,
    check_installation,
    check_kernels,
    check_methods,
    check_programs,
    check_versions,
    check_weights,
)
from genlangsplat_ns.language.named_autoencoders import cache_folder
from genlangsplat_ns.rasterization import library

GPU = SimpleNamespace(name="H100", total_memory=80e9, major=9, minor=0)


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Empty caches, and no loaded encoder."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(encoders, "loaded_encoders", {})


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder of programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def add_program(folder: Path, name: str, *lines: str) -> None:
    """Adds a program that prints lines."""
    (folder / name).write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    (folder / name).chmod(0o755)


def run(check: Check, stops: bool = False) -> dict[str, Finding]:
    """The findings of a check by name."""
    return {finding.name: finding for finding in check_installation([("check", check, stops)])}


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_sam(monkeypatch: pytest.MonkeyPatch, model: str, content: bytes, published_content: bytes) -> Path:
    """Stores weights of SAM that were published with some content."""
    name, digest = OFFICIAL_CHECKPOINTS[model].file_name, hashlib.sha256(published_content).hexdigest()
    monkeypatch.setitem(OFFICIAL_CHECKPOINTS, model, OfficialCheckpoint(name, digest, 0.01))
    return put(weights_folder() / name, content)


def put_clip() -> Path:
    """Stores a file in the place of CLIP's weights."""
    target = published.published_weights("openclip").target
    put(target.parents[2] / "refs" / "main", target.parent.name.encode())
    return put(target, b"damaged")


# Checks stand alone


def test_a_check_that_fails_becomes_a_finding_and_the_others_run() -> None:
    def halfway():
        yield Finding("first", "ok", "fine")
        raise ModuleNotFoundError("No module named 'open_clip'")

    def refused():
        raise GenLangSplatError("There is no X. Get X.")

    def whole():
        return [Finding("last", "ok", "fine")]

    assert check_installation([("a", halfway, True), ("b", refused, False), ("c", whole, True)]) == [
        Finding("first", "ok", "fine"),
        Finding("a", "missing", "ModuleNotFoundError: No module named 'open_clip'", INSTALL, stops=True),
        Finding("b", "missing", "There is no X. Get X."),
        Finding("last", "ok", "fine"),
    ]


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError, AssertionError, NameError])
def test_whatever_a_broken_package_raises_is_a_finding(error: type[Exception]) -> None:
    def broken():
        raise error

    assert run(broken) == {"check": Finding("check", "missing", f"{error.__name__}: no reason is given", INSTALL)}


# Versions and methods


def test_versions_are_compared_with_the_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version

    def version(name: str) -> str:
        if name in ("open_clip_torch", "tokenizers"):
            raise metadata.PackageNotFoundError(name)
        return "3.0" if name == "gsplat" else installed(name)

    monkeypatch.setattr(metadata, "version", version)
    found = run(check_versions)
    assert found["torch"] == Finding("torch", "ok", installed("torch"))
    required = {item.name: item.specifier for item in map(Requirement, metadata.requires("genlangsplat-ns") or ())}
    pins = required["gsplat"]
    assert found["gsplat"] == Finding("gsplat", "warning", f"3.0, expected {pins}", f'pip install "gsplat{pins}"')
    assert found["open_clip_torch"].state == "missing"
    assert found["open_clip_torch"].remedy.startswith('pip install "open_clip_torch')
    assert found["extra embedded"] == Finding(
        "extra embedded", "missing", "tokenizers", 'pip install "genlangsplat-ns[embedded]"'
    )
    assert f"scipy {installed('scipy')}" in found["other packages"].found


def test_every_extra_for_users_has_a_line() -> None:
    """Also one that is new, such as sam2."""
    extras = set(metadata.metadata("genlangsplat-ns").get_all("Provides-Extra") or ()) - {"docs", "dev"}
    assert extras >= {"embedded", "ray", "photos", "formats"}
    assert {name for name in run(check_versions) if name.startswith("extra ")} == {f"extra {name}" for name in extras}


def test_an_unsupported_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert run(check_versions)["python"].state == "warning"


def test_both_methods_load() -> None:
    assert run(check_methods) == {"methods": Finding("methods", "ok", "gen-langsplat, gen-langsplat-lite")}


def test_without_methods_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: ())
    assert run(check_methods)["methods"].stops


# Device, kernels, programs


def test_a_machine_without_a_gpu_is_fine(programs: Path) -> None:
    assert run(check_device)["device"].state == "ok"


@pytest.mark.parametrize(("built", "words"), [(None, "is built without CUDA"), ("12.4", "is built for CUDA 12.4")])
def test_a_torch_that_does_not_see_the_gpu_is_told(
    programs: Path, monkeypatch: pytest.MonkeyPatch, built: str | None, words: str
) -> None:
    add_program(programs, "nvidia-smi", "550.54")
    monkeypatch.setattr(torch.version, "cuda", built)
    finding = run(check_device)["device"]
    assert finding.state == "warning" and "driver 550.54" in finding.found and words in finding.found
    assert not finding.stops and finding.remedy.startswith("pip install")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that sees a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: GPU)


def test_a_gpu_needs_compiled_kernels_of_gsplat_or_nvcc(gpu: None, programs: Path) -> None:
    add_program(programs, "nvidia-smi", "550.54")
    found = run(check_device)
    assert found["cuda:0"].found.startswith("H100, 80 GB, capability 9.0, CUDA ")
    assert found["cuda:0"].found.endswith("driver 550.54")
    assert found["gsplat's kernels"].stops and "toolkit" in found["gsplat's kernels"].remedy
    add_program(programs, "nvcc", "nvcc: NVIDIA", "Build cuda_12.4")
    found = run(check_device)
    assert found["gsplat's kernels"].state == "ok" and "Build cuda_12.4" in found["gsplat's kernels"].found


def test_the_loaded_build_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENLANGSPLAT_ISA", raising=False)
    name = library.load_kernels().instruction_set
    assert run(check_kernels)["CPU kernels"].found.startswith(f"{name} loaded; this CPU runs {name};")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setenv("GENLANGSPLAT_ISA", "baseline")
    finding = run(check_kernels)["CPU kernels"]
    assert finding.state == "warning" and "Unset GENLANGSPLAT_ISA" in finding.remedy
    assert finding.found.startswith("baseline loaded; this CPU runs avx2;")


@pytest.mark.parametrize("cuda", [False, True])
def test_missing_kernels_stop_only_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch, cuda: bool) -> None:
    monkeypatch.delenv("GENLANGSPLAT_ISA", raising=False)
    monkeypatch.setattr(library, "library_path", lambda instruction_set: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    finding = run(check_kernels)["CPU kernels"]
    assert finding.state == "missing" and "not built" in finding.found and "g++" in finding.found
    assert finding.stops == (not cuda)


def test_programs_are_found_by_running_them(programs: Path) -> None:
    found = run(check_programs)
    assert [(item.state, item.remedy, item.stops) for item in found.values()] == [
        ("missing", "apt-get install g++", False),
        ("missing", "apt-get install ffmpeg", False),
    ]
    add_program(programs, "clang++", "clang version 17", "more")
    add_program(programs, "ffmpeg", "ffmpeg version 5.1 Copyright (c) people")
    found = run(check_programs)
    assert found["compiler"] == Finding("compiler", "ok", "clang version 17")
    assert found["ffmpeg"] == Finding("ffmpeg", "ok", "ffmpeg version 5.1")
    (programs / "ffmpeg").write_text("#!/bin/sh\nexit 127\n")
    assert run(check_programs)["ffmpeg"].state == "missing"


# Weights


def test_missing_weights_come_with_the_command_that_gets_them() -> None:
    found = run(check_weights)
    assert list(found) == ["SAM vit_h", "CLIP ViT-B-16 laion2b_s34b_b88k"]
    for finding in found.values():
        assert finding.state == "missing" and not finding.stops
        words = finding.remedy.removeprefix("gen-langsplat ").split()
        assert tyro.extras.subcommand_cli_from_dict(COMMANDS, args=words).weights in (("sam",), ("openclip",))


def test_weights_are_checked_against_the_published_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_sam(monkeypatch, "vit_b", b"whole", b"whole")
    put_sam(monkeypatch, "vit_h", b"half", b"half and half")
    put_clip()
    found = run(check_weights)
    assert {name: item.state for name, item in found.items()} == {
        "SAM vit_h": "warning",
        "SAM vit_b": "ok",
        "CLIP ViT-B-16 laion2b_s34b_b88k": "warning",
    }
    assert str(path) in found["SAM vit_b"].found and "as published" in found["SAM vit_b"].found
    assert found["SAM vit_h"].remedy == "gen-langsplat fetch-weights sam --sam-model vit_h"


def test_without_open_clip_the_other_checks_still_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    found = check_installation([("weights", check_weights, False), ("auto", check_choice, True)])
    assert found[0].name == "SAM vit_h"
    assert found[1].name == "weights" and "open_clip" in found[1].found and found[1].remedy == INSTALL
    assert [item.name for item in found if item.stops] == ["encoder conse"]
    assert found[-1].name == "auto: autoencoder" and found[-1].state == "ok"


# Autoencoders and what auto takes


def test_autoencoders_are_listed_with_identity_and_hash() -> None:
    damaged = put(cache_folder() / "mine.safetensors", b"damaged")
    found = run(check_autoencoders)
    assert found["autoencoder conse"].state == "ok"
    assert "384 -> 16 for conse/" in found["autoencoder conse"].found and "sha256" in found["autoencoder conse"].found
    assert found["autoencoder mine"].state == "warning" and str(damaged) in found["autoencoder mine"].remedy


def test_auto_is_what_the_extractor_takes() -> None:
    found = run(check_choice)
    assert found["auto: encoder, masks"].found == FeatureExtractor(FeatureSettings()).choice
    assert found["encoder conse"].state == "ok"
    assert found["auto: autoencoder"].found.startswith("conse-16")


def test_on_a_gpu_auto_follows_the_weights_and_says_when_they_do_not_load(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_sam(monkeypatch, "vit_h", b"", b"")
    put_clip()
    found = run(check_choice)
    assert found["auto: encoder, masks"].found == "encoder openclip; masks sam"
    assert found["encoder openclip"].stops and "damaged" in found["encoder openclip"].found
    assert found["auto: autoencoder"].state == "warning"
    assert found["auto: autoencoder"].found.startswith("projection-16, because no named autoencoder is for openclip/")
