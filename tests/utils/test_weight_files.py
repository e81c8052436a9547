"""Weights files of any format, and files that are something else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.weight_files import model_kind, read_weights
from genlangsplat_ns.utils.wrong_files import wrong_content

STATE = {"a": torch.arange(3.0), "b.c": torch.ones(2, 2)}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in STATE.items()}


@pytest.mark.parametrize(
    ("name", "write", "plain"),
    [
        ("w.pt", lambda path: torch.save(STATE, path), True),
        ("w.bin", lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False), True),
        ("w.pth", lambda path: torch.save({"state_dict": STATE, "epoch": 2}, path), True),
        ("w.pt", lambda path: torch.save({"model": STATE, "optimizer": {"lr": 1.0}}, path), False),
        ("w.pt", lambda path: torch.save({"state_dict": prefixed("module.")}, path), False),
        ("w.pt", lambda path: torch.save(prefixed("module._orig_mod."), path), False),
        ("w.safetensors", lambda path: save_file(STATE, path), True),
        ("w.pt", lambda path: save_file(STATE, path), False),
    ],
    ids=["torch", "old torch", "checkpoint", "nested", "distributed", "compiled", "safetensors", "other suffix"],
)
def test_every_format_gives_the_same_weights(
    tmp_path: Path, name: str, write: Callable[[Path], None], plain: bool
) -> None:
    write(tmp_path / name)
    file = read_weights(tmp_path / name)
    assert file.tensors.keys() == STATE.keys()
    assert all(torch.equal(file.tensors[key], value) for key, value in STATE.items())
    assert file.is_plain == plain


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight * 1.25


class Restored(Doubled):
    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.weight, self.training = state


def save_script(module: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))


def test_torchscript_archives_give_their_weights_and_code(tmp_path: Path) -> None:
    save_script(Doubled(), tmp_path / "w.pt")
    file = read_weights(tmp_path / "w.pt")
    assert file.tensors["weight"].tolist() == [0, 1, 2]
    assert "1.25" in file.code and not file.is_plain


def test_torchscript_archives_that_run_code_are_refused(tmp_path: Path) -> None:
    save_script(Restored(), tmp_path / "w.pt")
    with pytest.raises(GenLangSplatError, match=r"w\.pt is a TorchScript program that runs code"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "Git LFS pointer.*git lfs pull"),
        (b"\xef\xbb\xbf\n  <!DOCTYPE html><html>", "web page"),
        (b"<HTML><body>404</body>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "answer of a server"),
        (b'{"error":"Invalid username or password."}', "error message of a server"),
        (b"\x1f\x8b\x08\x00", "gzip archive"),
    ],
    ids=["empty", "lfs", "page", "page in capitals", "xml", "json", "gzip"],
)
def test_stand_ins_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GenLangSplatError, match=rf"{name} is damaged or no weights file: it is .*{what}"):
            read_weights(tmp_path / name)


def test_real_content_is_not_taken_for_a_stand_in(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pt")
    save_file(STATE, tmp_path / "w.safetensors")
    (tmp_path / "w.ply").write_text("ply\nformat ascii 1.0\n")
    assert [wrong_content(path) for path in sorted(tmp_path.iterdir())] == [None] * 3


def test_models_are_told_apart_by_their_names() -> None:
    assert model_kind(["image_encoder.trunk.pos_embed", "sam_mask_decoder.a"]) == "SAM 2"
    assert model_kind(["token_embedding.weight", "visual.conv1.weight", "positional_embedding"]) == "CLIP"
    assert model_kind(["layer.weight"]) is None
