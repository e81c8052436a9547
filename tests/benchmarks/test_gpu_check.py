"""The check for cards: parts that fail, hang or cannot run do not stop the others; and what needs no card runs here."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import encoder_makers
from genlangsplat_ns.features.settings import OpenClipSettings

ROOT = Path(__file__).parents[2]

STAND_IN = """
import json, pathlib, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
rows = [{"name": "figure", "value": 1.5, "unit": "ms"}]
if name == "hangs":
    time.sleep(60)
if name == "breaks":
    (folder / "breaks.json").write_text(json.dumps({"rows": rows}))
    sys.exit("the card is on fire")
reason = {"skipped": "there is no fox"} if name == "absent" else {}
(folder / f"{name}.json").write_text(json.dumps({"rows": rows, **reason}))
"""
"""A program that behaves like parts of several kinds."""


@pytest.fixture
def check(benchmarks_importable: None) -> ModuleType:
    from gpu import check

    return check


def run_stand_ins(check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *more: str) -> dict[str, Any]:
    """Runs parts of all kinds, and returns what is written."""
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "part.py").write_text(STAND_IN)
    monkeypatch.setattr(check, "prepare_environment", lambda bundle: {**os.environ, "PYTHONPATH": str(tmp_path)})
    parts = (
        check.Part("breaks", 30),
        check.Part("hangs", 1),
        check.Part("absent", 30),
        check.Part("works", 30),
        check.Part("builds", 30, ("works",)),
        check.Part("waits", 30, ("breaks",)),
    )
    monkeypatch.setattr(check, "PARTS", parts)
    code = check.main(["--output", str(tmp_path / "out"), *more])
    return {**json.loads((tmp_path / "out" / "gpu-check.json").read_text()), "code": code}


def test_the_others_run_when_parts_fail_hang_or_are_skipped(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run_stand_ins(check, monkeypatch, tmp_path)
    assert document["code"] == 1
    assert {part["part"]: (part["state"], part["note"]) for part in document["parts"]} == {
        "breaks": ("failed", "the card is on fire"),
        "hangs": ("failed", "stopped after 1 s"),
        "absent": ("skipped", "there is no fox"),
        "works": ("ok", ""),
        "builds": ("ok", ""),
        "waits": ("skipped", "needs breaks"),
    }
    figure = {"name": "figure", "value": 1.5, "unit": "ms"}
    assert {"part": "breaks", **figure} in document["rows"] and {"part": "works", **figure} in document["rows"]
    said = capsys.readouterr().out
    assert "| works | figure | 1.5 | ms |" in said
    assert "Skipped: absent (there is no fox); waits (needs breaks)." in said


def test_without_time_the_rest_is_skipped(check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    document = run_stand_ins(check, monkeypatch, tmp_path, "--minutes", "0")
    assert document["code"] == 0
    assert {part["note"] for part in document["parts"]} == {"no time is left", "needs works", "needs breaks"}


def test_every_part_has_a_function_and_the_limits_of_the_usual_ones_fit(check: ModuleType) -> None:
    from gpu import part

    assert [item.name for item in check.PARTS] == list(part.FUNCTIONS)
    for item in check.PARTS:
        source = (ROOT / "benchmarks" / "gpu" / f"{part.FUNCTIONS[item.name]}.py").read_text()
        assert re.search(rf"^def {item.name}\(settings: Settings\) -> None:$", source, re.MULTILINE)
        assert set(item.needs) <= set(part.FUNCTIONS)
    assert check.MINUTES == 8


def test_a_part_reports_its_figures_and_why_it_was_skipped(check: ModuleType, tmp_path: Path) -> None:
    from gpu.part import Settings, Skipped, run

    def measure(settings: Settings) -> None:
        settings.report("steps", settings.size(300, 3))

    def give_up(settings: Settings) -> None:
        raise Skipped("there is no fox")

    settings = Settings(tmp_path, "cpu", tmp_path, quick=True)
    assert [row["name"] for row in run("steps", settings, measure)["rows"]] == ["steps", "peak memory"]
    assert settings.rows[0]["value"] == 3
    assert run("fox", Settings(tmp_path, "cpu", tmp_path, True), give_up) == {"rows": [], "skipped": "there is no fox"}


def test_the_software_of_this_machine_is_described(check: ModuleType, tmp_path: Path) -> None:
    from gpu.part import Settings
    from gpu.software_parts import build, environment

    settings = Settings(tmp_path, "cpu", tmp_path, quick=True)
    environment(settings)
    build(settings)
    found = {row["name"]: row["value"] for row in settings.rows}
    assert found["missing packages"] == "none" and found["torch"] == torch.__version__.split("+")[0]
    assert found["CPU kernels"] in ("avx512", "avx2", "baseline")


class Sentences:
    """A fake of the sentence model."""

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


def test_stored_sentences_stand_in_for_the_model(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gpu import sentences

    path = tmp_path / "sentences.safetensors"
    monkeypatch.setattr(sentences, "SentenceModel", Sentences)
    assert sentences.write_sentences(path) > 1000
    stored = sentences.StoredSentences(path)
    assert stored.knows("the fox") and stored.knows("a cat") and not stored.knows("a zeppelin")
    assert stored.encode(["a fox", "a wild animal"]).tolist() == [[5.0, 1.0], [13.0, 1.0]]
    with pytest.raises(GenLangSplatError, match=r"no embedding of 'a zeppelin'.*extra embedded"):
        stored.encode(["a zeppelin"])

    monkeypatch.setitem(encoder_makers, "conse", encoder_makers["conse"])
    monkeypatch.setenv(sentences.VARIABLE, str(path))
    assert not sentences.use_stored_sentences(), "the model is installed"
    monkeypatch.setattr(sentences, "find_spec", lambda name: None)
    assert sentences.use_stored_sentences()
    encoder = encoder_makers["conse"]("cpu", OpenClipSettings(), False)
    torch.testing.assert_close(encoder.encode_texts(["a fox"]), encoder.encode_texts(["the fox"]))
    with pytest.raises(GenLangSplatError, match="knows no word of 'a zeppelin'"):
        encoder.encode_texts(["a zeppelin"])


def test_a_bundle_finds_the_toolkit_and_drops_sources(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpu import bundle

    for name in ("bin/nvcc", "include/cuda_runtime.h"):
        (tmp_path / "cuda" / name).parent.mkdir(parents=True)
        (tmp_path / "cuda" / name).touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert bundle.find_toolkit() == tmp_path / "cuda"

    wheel = tmp_path / "bundle" / "gsplat-1.5.3-cp312-cp312-linux_x86_64.whl"
    wheel.parent.mkdir()
    header, record = "gsplat/cuda/csrc/third_party/glm.hpp", "gsplat-1.5.3.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("gsplat/csrc.so", b"\x7fELF")
        file.writestr(header, "// glm")
        file.writestr(record, f"gsplat/csrc.so,sha256=1,4\n{header},sha256=2,6\n{record},,\n")
    bundle.shrink(wheel)
    with zipfile.ZipFile(wheel) as file:
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_LZMA}
        assert file.namelist() == ["gsplat/csrc.so", record]
        assert file.read(record).decode() == f"gsplat/csrc.so,sha256=1,4\n{record},,\n"

    assert bundle.report(wheel.parent) == 0
    monkeypatch.setattr(bundle, "MEGABYTES", 0)
    assert bundle.report(wheel.parent) == 1
    assert "at most 0 MB" in capsys.readouterr().out


def few_frames(scene: Path, folder: Path, every: int) -> Path:
    """Copies a scene with some of its frames."""
    shutil.copytree(scene, folder, ignore=shutil.ignore_patterns("language_features"))
    document = json.loads((folder / "transforms.json").read_text())
    document["frames"] = sorted(document["frames"], key=lambda frame: frame["file_path"])[::every]
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


@pytest.mark.slow
def test_the_whole_check_is_rehearsed_without_a_card(check: ModuleType, tmp_path: Path, shared_data: Path) -> None:
    """Tiny scenes and few steps; stock splatfacto and the tests of the card are left out."""
    fox = few_frames(shared_data / "fox", tmp_path / "few", every=4)
    options = ["--device", "cpu", "--quick", "--minutes", "60", "--fox", str(fox)]
    assert check.main([*options, "--output", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "gpu-check.json").read_text())
    assert {part["state"] for part in document["parts"]} == {"ok"}
    figures = {(row["part"], row["name"]): row["value"] for row in document["rows"]}
    assert figures["agreement", "images: mean difference"] == 0
    assert figures["steps", "step of gen-langsplat, median"] > 0 and figures["language", "step of Adam"] > 0
    assert figures["fox", "peaks on the fox"] > 0.3 and figures["gallery", "localization"] > 0.3
