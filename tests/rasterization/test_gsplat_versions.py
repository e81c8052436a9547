"""Our calls of every version of gsplat that the package works with, compared with its real code.

The stored signatures need nothing. The real packages run without their kernels: `make contract` downloads them.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import gsplat
import pytest
import torch
from packaging.requirements import Requirement
from packaging.version import Version

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import cuda, rasterization
from genlangsplat_ns.rasterization.densification import BudgetedStrategy
from tests.rasterization import gsplat_packages
from tests.rasterization.gaussian_scenes import small_scene
from tests.rasterization.gsplat_packages import VERSIONS, package_folder, probe, stored_contract
from tests.rasterization.gsplat_probe import MAX_GAUSSIANS

SHARED = inspect.signature(rasterization).parameters

CHOSEN_HERE = {"packed", "tile_size"}
"""Arguments with another default than in some versions; they are always passed."""


@cache
def report(version: str) -> dict[str, Any]:
    """What a real package is like; the tests that need it are skipped if it is not there."""
    folder = package_folder(version)
    if folder is None:
        pytest.skip(f"needs the package of gsplat {version}: run `make contract`, which downloads it")
    return probe(folder)


def signature(version: str, name: str) -> inspect.Signature:
    """A stored signature; defaults that are no literals stay texts."""
    parameters = []
    for part in stored_contract(version)["signatures"][name]:
        parameter, _, text = part.partition("=")
        default = inspect.Parameter.empty if not text else text if text.startswith("<") else ast.literal_eval(text)
        parameters.append(inspect.Parameter(parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default))
    return inspect.Signature(parameters)


# Stored signatures


@pytest.mark.parametrize("version", VERSIONS)
def test_every_argument_exists_with_the_same_default(version: str) -> None:
    theirs = signature(version, "rasterization").parameters
    assert set(SHARED) <= set(theirs)
    differing = {name for name, ours in SHARED.items() if ours.default != theirs[name].default}
    assert differing <= CHOSEN_HERE
    positions = [name for name, parameter in SHARED.items() if parameter.kind is not parameter.KEYWORD_ONLY]
    assert positions == list(theirs)[: len(positions)]


@pytest.mark.parametrize("version", VERSIONS)
def test_harmonics_are_called_by_one_of_two_signatures(version: str) -> None:
    theirs = signature(version, "spherical_harmonics")
    arguments = (
        (3, "means", "viewmats", "harmonics") if Version(version) >= Version("1.6") else (3, "dirs", "harmonics")
    )
    bound = theirs.bind(*arguments).arguments
    assert ("viewmats" in bound) == (len(arguments) == 4) and bound["coeffs"] == "harmonics"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_densification_overrides_methods_that_exist(version: str) -> None:
    step = signature(version, "DefaultStrategy.step_post_backward")
    step.bind("self", "params", "optimizers", "state", 0, "info", packed=False)
    update = signature(version, "DefaultStrategy._update_state")
    assert list(update.parameters) == list(inspect.signature(BudgetedStrategy._update_state).parameters)
    signature(version, "DefaultStrategy._grow_gs").bind("self", "params", "optimizers", "state", 0)
    signature(version, "reset_opa").bind("params", "optimizers", "state", value=0.1)
    settings = set(signature(version, "DefaultStrategy").parameters)
    assert set(inspect.signature(BudgetedStrategy).parameters) - {"max_gaussians"} <= settings


@pytest.mark.parametrize("version", VERSIONS)
def test_results_hold_what_the_densification_reads(version: str) -> None:
    contract = stored_contract(version)
    assert {"means2d", "radii", "width", "height", "n_cameras", "gaussian_ids"} <= set(contract["info"])
    assert contract["radii"] == [1, "Gaussians"] + [2] * (Version(version) >= Version("1.5"))


# Real packages


@pytest.mark.parametrize("version", VERSIONS)
def test_the_package_is_as_stored(version: str) -> None:
    assert report(version)["contract"] == stored_contract(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_calls_through_the_real_package_equal_those_on_the_cpu(version: str) -> None:
    """Images, alphas, gradients and absgrad, with kernels that run on the CPU in place of gsplat's."""
    errors = report(version)["errors"]
    assert set(errors) == {"harmonics", "colors", "latents", "background", "depth", "shade"}
    assert {"image", "alphas", "means", "quats", "scales", "opacities", "viewmats"} <= set(errors["depth"])
    assert "absgrad" in errors["colors"]
    assert max(error for call in errors.values() for error in call.values()) < 1e-4


@pytest.mark.parametrize("version", VERSIONS)
def test_densification_resets_opacities_and_grows_alike(version: str) -> None:
    """gsplat 1.5 alone would never reset, and 1.6 not in the first step."""
    found = report(version)["densification"]
    assert found["resets"] == [0, 8, 16]
    assert found["counts"][4] > found["counts"][0] and found["counts"][12] < found["counts"][11]
    assert max(found["counts"]) <= MAX_GAUSSIANS


# What is outside


def test_the_supported_versions_are_those_of_the_dependency() -> None:
    project = (gsplat_packages.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (dependency,) = re.findall(r'^    "(gsplat\b.*)",$', project, flags=re.MULTILINE)
    assert Requirement(dependency).specifier == cuda.SUPPORTED
    assert all(version in cuda.SUPPORTED for version in VERSIONS)


@pytest.fixture
def forgotten() -> Any:
    """Nothing remembered of the installed gsplat, before and after."""
    cuda.load_gsplat.cache_clear()
    yield
    cuda.load_gsplat.cache_clear()


@pytest.mark.parametrize("version", ["1.3.0", "1.7.0", "2.0+cu130"])
def test_an_unsupported_version_is_named(monkeypatch: pytest.MonkeyPatch, forgotten: None, version: str) -> None:
    monkeypatch.setattr(gsplat, "__version__", version)
    expected = rf"gsplat {version} is installed; expected .*1\.4.*pip install --no-deps gsplat=="
    with pytest.raises(GenLangSplatError, match=expected.replace("+", r"\+")):
        cuda.load_gsplat()


@pytest.mark.parametrize("version", ["1.4.0+pt24cu124", "1.5.0", "1.6.1.dev3"])
def test_builds_and_development_versions_are_supported(
    monkeypatch: pytest.MonkeyPatch, forgotten: None, version: str
) -> None:
    monkeypatch.setattr(gsplat, "__version__", version)
    assert cuda.load_gsplat() is gsplat


def test_a_missing_gsplat_is_told(monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(GenLangSplatError, match=r"gsplat, which renders on CUDA, cannot be imported.*pip install"):
        cuda.load_gsplat()


@pytest.mark.parametrize("channels", [1, 3, 5, 20, 32, 49, 52, 63])
@pytest.mark.parametrize("render_mode", ["RGB", "RGB+ED"])
def test_any_number_of_channels_becomes_one_that_has_kernels(
    monkeypatch: pytest.MonkeyPatch, channels: int, render_mode: str
) -> None:
    def render(colors: torch.Tensor, backgrounds: torch.Tensor, **_: Any) -> tuple[torch.Tensor, torch.Tensor, dict]:
        layers = colors.sum(0) + backgrounds[0]
        total = len(layers) + (render_mode != "RGB")
        assert (total - 1) % cuda.CHANNEL_CHUNK + 1 in cuda.CHANNELS
        image = torch.cat((layers, torch.full((total - len(layers),), -7.0))).expand(1, 2, 2, total)
        return image, image[..., :1], {}

    monkeypatch.setattr(gsplat, "rasterization", render)
    scene = small_scene(channels=channels)
    arguments = {**scene.arguments(), "sh_degree": None, "render_mode": render_mode}
    image, _, _ = cuda.rasterize({**arguments, "backgrounds": torch.ones(1, channels)})
    assert torch.allclose(image[0, 0, 0, :channels], scene.colors.sum(0) + 1)
    assert image[0, 0, 0, channels:].tolist() == [-7.0] * (render_mode != "RGB")


def test_a_version_without_a_release_comes_from_its_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "gsplat").mkdir(parents=True)
    (repository / "gsplat" / "rendering.py").write_text("ours = 1\n")
    identity = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
    for command in (("init", "--quiet"), ("add", "."), (*identity, "commit", "--quiet", "-m", "all")):
        subprocess.run(["git", *command], check=True, cwd=repository)
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, cwd=repository, capture_output=True, text=True)
    monkeypatch.setattr(gsplat_packages, "PACKAGES", tmp_path / "packages")
    monkeypatch.setattr(gsplat_packages, "REPOSITORY", str(repository))
    monkeypatch.setattr(gsplat_packages, "COMMITS", {"1.9.0": head.stdout.strip()})
    assert package_folder("1.9.0") is None
    gsplat_packages.download("1.9.0")
    folder = package_folder("1.9.0")
    assert folder is not None and (folder / "gsplat" / "rendering.py").read_text() == "ours = 1\n"
