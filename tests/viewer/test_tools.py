"""The operations behind the viewer's buttons, without a viewer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.selection import GaussianSelection
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.splat_files import WRITTEN, read_splats
from genlangsplat_ns.viewer.tools import SceneTools
from tests.scene_io.gaussian_fakes import trained_like


def tools(antialiased: bool) -> SceneTools:
    """Tools that can only export."""

    def absent(*_: object) -> None:
        raise AssertionError("an export needs neither latents nor the viewer")

    tensors = trained_like(50, 1).tensors()
    return SceneTools(
        absent,  # type: ignore[arg-type]
        absent,  # type: ignore[arg-type]
        absent,
        lambda keep: GaussianParameters(**{name: value[keep] for name, value in tensors.items()}),
        antialiased,
        absent,  # type: ignore[arg-type]
    )


def selection() -> GaussianSelection:
    return GaussianSelection(torch.arange(50) < 20, torch.zeros(50, 3))


@pytest.mark.parametrize("ending", WRITTEN)
@pytest.mark.parametrize("antialiased", [True, False])
def test_a_selection_is_written_in_the_format_of_its_ending(ending: str, antialiased: bool, tmp_path: Path) -> None:
    tools(antialiased).export(selection(), tmp_path / f"a{ending}")
    read = read_splats(tmp_path / f"a{ending}")
    assert (read.format, len(read.gaussians), read.antialiased) == (WRITTEN[ending], 20, antialiased)


def test_another_ending_and_an_existing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"a\.splat; give a file name that ends in"):
        tools(False).export(selection(), tmp_path / "a.splat")
    (tmp_path / "a.ply").write_text("mine")
    with pytest.raises(GenLangSplatError, match="exists already"):
        tools(False).export(selection(), tmp_path / "a.ply")
    assert (tmp_path / "a.ply").read_text() == "mine"
