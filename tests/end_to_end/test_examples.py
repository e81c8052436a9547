"""Every example runs as printed, in one folder, and says what it should."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from genlangsplat_ns import load_autoencoder
from genlangsplat_ns.scene_io.ply import read_ply

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(example_run: Path) -> Path:
    """The folder of scene and run."""
    return example_run


@pytest.fixture(autouse=True)
def _like_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples import their helpers from their own folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run_example(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs an example like `python examples/NAME --run FOLDER`."""
    monkeypatch.setattr(sys, "argv", [name, "--run", str(folder)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_asking(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("01_ask.py", folder, monkeypatch)
    assert "a cat: best at pixel" in capsys.readouterr().out
    overlay = np.asarray(Image.open(folder / "a-cat.png"))
    assert overlay.shape == (180, 240, 3) and overlay.std() > 10


def test_cutting_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("02_cut_out.py", folder, monkeypatch)
    cat, rest = read_ply(folder / "cat.ply"), read_ply(folder / "gallery-without-cat.ply")
    assert 0 < len(cat.means) < len(rest.means)


def test_an_own_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("03_own_encoder.py", folder, monkeypatch)
    orange, white = (
        [int(word) for word in line.replace(",", "").split() if word.isdigit()]
        for line in capsys.readouterr().out.splitlines()
        if "on average" in line
    )
    assert orange[0] > orange[2] + 50 and min(white) > 150, "the best places have the color that was asked for"


def test_own_masks(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_example("04_own_masks.py", folder, monkeypatch)
    assert "with superpixels" in capsys.readouterr().out
    assert list((folder / "own-masks/language_features").glob("conse-superpixels-*/*.safetensors"))


def test_a_flight(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("05_video.py", folder, monkeypatch)
    document = json.loads((folder / "flight/query.json").read_text())
    assert len(document["results"]) > 6
    assert all((folder / "flight" / result["overlay"]).stat().st_size > 0 for result in document["results"])


def test_own_labels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("06_evaluate_own_labels.py", folder, monkeypatch)
    document = json.loads((folder / "evaluation/evaluation.json").read_text())
    held_out = document["protocols"]["threshold"]["eval"]
    assert document["labels"]["kind"] == "masks" and held_out["pairs"] > 2
    assert held_out["micro"]["localization"] >= 0.5


def test_pre_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("07_pretrain.py", folder, monkeypatch)
    identity = load_autoencoder(folder / "example-16.safetensors").identity
    assert (identity.embedding_dim, identity.latent_dim) == (384, 16)


def test_the_notebook(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(folder.parent)
    cells = json.loads((EXAMPLES / "08_notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells), "outputs are not stored"
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert "Gaussians, 3 of 15 views held out" in capsys.readouterr().out


def test_every_example_has_a_row(folder: Path) -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(EXAMPLES.glob("[0-9]*")) if f"]({path.name})" not in table] == []
