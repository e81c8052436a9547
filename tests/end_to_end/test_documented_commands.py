"""The commands and programs in the documents run as printed, in a folder that has what they name.

What needs weights, a cluster, data or minutes is listed with its reason; other tests run such commands in other forms.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain import __main__ as pretrain_program
from tests.end_to_end.commands import gen_langsplat
from tests.scene.test_cameras import path_file
from tests.test_documents import DOCUMENTS, commands_in, python_blocks

pytestmark = pytest.mark.slow

NOT_RUN = {
    "sam": "weights of SAM",
    "sam2": "the package sam2 and its weights",
    "openclip": "weights of CLIP",
    "fetch-weights": "network",
    "demo": "minutes; this is what `make demo` runs",
    "from-photos": "pycolmap, and photographs without cameras; `tests/photographs` has both",
    "ray": "a running cluster",
    "--scannet": "ScanNet",
    "--from-langsplat": "LangSplat's files",
    "conse": "the folders of ImageNet classes",
    "train-conse": "minutes",
    "sweep": "minutes; a training for each width",
    "cross": "minutes; a training for each set",
    "view": "a server, which runs until Ctrl-C; `tests/web` starts it",
    "both": "minutes; both decoders in every labeled view",
    "--masks-path": "a COLMAP scene with masks",
    "cuda": "a card",
    "benchmarks/fox_labels": "the fox scene",
}
"""Words of commands that are not run here, and what they need."""


def documented(program: str) -> list[str]:
    """The different command lines of a program in all documents, in their order."""
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    lines = [shlex.join(words) for text in texts for words in commands_in(text, program)]
    return [line for line in dict.fromkeys(lines) if not set(shlex.split(line)) & set(NOT_RUN)]


@pytest.fixture
def folder(example_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a scene, its labels, two runs, and a camera path, by the names of the documents."""
    scene, (config,) = example_run / "scene", (example_run / "runs").rglob("config.yml")
    for name in ("RUN", "OTHER_RUN"):
        shutil.copytree(config.parent, tmp_path / name)
    shutil.copytree(tmp_path / "RUN", tmp_path / "outputs" / "scene" / "gen-langsplat-lite" / "run")
    shutil.copytree(scene, tmp_path / "SCENE")
    shutil.copytree(scene / "labels", tmp_path / "LABELS")
    path_file(tmp_path).rename(tmp_path / "path.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("line", documented("gen-langsplat"), ids=documented("gen-langsplat"))
def test_the_command_runs(line: str, folder: Path) -> None:
    if "--video" in line and shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg: apt-get install ffmpeg")
    # The fox and its scene stand for what a reader has.
    gen_langsplat(*(word.replace("a fox", "a cat") for word in shlex.split(line)))


def pretrain(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs `python -m pretrain` in this process."""
    monkeypatch.setattr("sys.argv", ["pretrain", *shlex.split(line)])
    pretrain_program.main()


def test_pre_training_runs_as_documented_with_fewer_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, photograph in enumerate(sorted((folder / "SCENE" / "images").iterdir())):
        place = folder / "PHOTOS" / f"scene-{number % 3}" / photograph.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photograph, place)
    pretrain("extract --embeddings EMB --images PHOTOS", monkeypatch)
    for name in ("TRIAL", "HELD_OUT", "ROOMS"):
        shutil.copytree("EMB", name)
    # From here on, PHOTOS are the embeddings of photographs.
    shutil.rmtree("PHOTOS")
    shutil.copytree("EMB", "PHOTOS")
    lines = documented("python -m pretrain")
    later = [line for line in lines if not line.startswith("extract ")]
    assert "extract --embeddings EMB --images PHOTOS" in lines and len(later) > 4
    for line in sorted(later, key=lambda line: not line.startswith("train ")):
        short = " --training.steps 100" if line.startswith("train ") else ""
        pretrain(line + short, monkeypatch)
    assert list((folder / "cache").rglob("*.safetensors"))


def python_programs() -> list[str]:
    """The different programs in all documents, which open the run of this folder."""
    blocks = [block for document in DOCUMENTS for block in python_blocks(document.read_text(encoding="utf-8"))]
    return list(dict.fromkeys(re.sub(r'open_run\("[^"]+"\)', 'open_run("RUN/config.yml")', block) for block in blocks))


@pytest.mark.parametrize("program", [program for program in python_programs() if "open_run" in program])
def test_programs_that_ask_run(program: str, folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(program.replace("a fox", "a cat"), names)
    assert isinstance(names["chosen"], np.ndarray) and names["chosen"].any()


@pytest.mark.parametrize("program", [program for program in python_programs() if "open_run" not in program])
def test_programs_that_read_labels_run(program: str, folder: Path) -> None:
    gen_langsplat("label", "--load-config", "RUN/config.yml", "--texts", "a cat", "--output-dir", "labeled")
    names: dict[str, Any] = {}
    exec(program, names)
    assert 0 < len(names["first"]) < len(names["vertices"])
