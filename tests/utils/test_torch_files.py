"""Files of `torch.save` of unknown origin: no code runs, and no file takes more memory than it has."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from genlangsplat_ns.utils.torch_files import UnusableFileError, load_torch_file


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("mmap", [False, True])
def test_tensors_and_plain_values_are_loaded(tmp_path: Path, mmap: bool) -> None:
    content = {"step": 3, "values": [torch.arange(4), (torch.ones(2), None)], "name": "a"}
    torch.save(content, tmp_path / "a.pt")
    loaded = load_torch_file(tmp_path / "a.pt", mmap, checksums=True)
    assert loaded["step"] == 3 and loaded["values"][0].tolist() == [0, 1, 2, 3]


def test_files_of_old_versions_of_torch_are_loaded(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert load_torch_file(tmp_path / "a.pt", mmap=True)["a"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("new", [False, True])
def test_code_in_a_file_is_not_run(tmp_path: Path, new: bool) -> None:
    torch.save({"a": Trap(tmp_path / "trap")}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(UnusableFileError, match="it contains more than weights"):
        load_torch_file(tmp_path / "a.pt")
    assert not (tmp_path / "trap").exists()


def test_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Trap(tmp_path / "trap")))
    with pytest.raises(UnusableFileError):
        load_torch_file(tmp_path / "a.pt")
    assert not (tmp_path / "trap").exists()


def test_an_archive_that_unpacks_to_more_than_it_has_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert (tmp_path / "packed.pt").stat().st_size < 10_000
    with pytest.raises(UnusableFileError, match=r"is compressed, which torch\.save does not do"):
        load_torch_file(tmp_path / "packed.pt")


def test_a_tensor_that_shows_one_number_everywhere_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(1 << 30)}, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 10_000
    with pytest.raises(UnusableFileError, match="has fewer numbers stored"):
        load_torch_file(tmp_path / "a.pt")
    torch.save({"a": torch.zeros(1).expand(3, 4)}, tmp_path / "b.pt")
    assert load_torch_file(tmp_path / "b.pt")["a"].shape == (3, 4)


def test_tensors_of_other_kinds_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    with pytest.raises(UnusableFileError, match="a tensor of another kind"):
        load_torch_file(tmp_path / "a.pt")


def test_damage_shows_in_the_checksums(tmp_path: Path) -> None:
    torch.save({"a": torch.full((1000,), 7.0)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(torch.full((1000,), 7.0).numpy().tobytes()) + 400] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UnusableFileError, match="does not have the stored checksum"):
        load_torch_file(tmp_path / "a.pt", checksums=True)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"\x80\x02N.", b"not a file of torch"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UnusableFileError):
        load_torch_file(tmp_path / "a.pt")


def test_an_archive_that_claims_to_be_in_several_parts_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    locator = b"PK\x06\x07" + (1).to_bytes(4, "little") + bytes(8) + (2).to_bytes(4, "little")
    (tmp_path / "a.pt").write_bytes(locator + b"PK\x05\x06" + bytes(18))
    with pytest.raises(UnusableFileError):
        load_torch_file(tmp_path / "a.pt")
