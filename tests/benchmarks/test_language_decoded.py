"""Latents of the compared solvers go from one benchmark to the next in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError

pytestmark = pytest.mark.usefixtures("benchmarks_importable")


def test_latents_of_composed_scenes_are_read_by_solver(tmp_path: Path) -> None:
    from language_decoded import composed_latents

    from support.language_race import write_latents

    lifted, best = torch.rand(4, 3, 2), torch.rand(4, 3, 2)
    write_latents(tmp_path / "small.safetensors", "small", {"plain": lifted}, {"Adam": {"step": 5, "latents": best}})
    write_latents(tmp_path / "run.safetensors", "photographs", {"plain": lifted}, {})
    found = composed_latents(tmp_path)
    assert found.keys() == {"small"} and found["small"].keys() == {"plain", "Adam"}
    assert found["small"]["plain"].equal(lifted) and found["small"]["Adam"].equal(best)


def test_a_folder_without_latents_is_an_error(tmp_path: Path) -> None:
    from language_decoded import composed_latents

    with pytest.raises(GenLangSplatError, match="--parts adam --latents"):
        composed_latents(tmp_path)
