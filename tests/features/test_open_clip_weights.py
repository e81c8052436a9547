"""CLIP's weights: search, download and errors."""

from __future__ import annotations

import re
from pathlib import Path

import open_clip
import open_clip.factory
import open_clip.pretrained
import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import (
    encoder_embedding_dim,
    encoder_identity,
)
from genlangsplat_ns.features.open_clip_encoder import OpenClipEncoder, openclip_weights_present
from genlangsplat_ns.features.settings import OpenClipSettings
from tests.features.tiny_clip import DEFAULT_SOURCE, MODEL, WIDER_MODEL, crops_of, plain_embeddings, settings_for

pytestmark = pytest.mark.usefixtures("offline", "nothing_loaded")


def test_an_unknown_model_is_answered_with_the_known_ones():
    settings = OpenClipSettings(model="ViT-B-17")
    for ask in (lambda: OpenClipEncoder(settings), lambda: encoder_embedding_dim("openclip", settings)):
        with pytest.raises(GenLangSplatError, match=r"'ViT-B-17'.*ViT-B-16, "):
            ask()


@pytest.mark.parametrize("download", [False, True])
def test_unknown_weights_are_answered_with_the_known_ones(download):
    with pytest.raises(GenLangSplatError, match=r"'laion3b' of ViT-B-16.*laion2b_s34b_b88k.*open-clip\.weights"):
        OpenClipEncoder(OpenClipSettings(weights="laion3b"), download=download)


def test_a_file_that_is_not_there_is_named(folder, tmp_path):
    settings = settings_for(tmp_path / "gone.pt")
    for ask in (lambda: OpenClipEncoder(settings, download=True), lambda: encoder_identity("openclip", settings)):
        with pytest.raises(GenLangSplatError, match=r"gone\.pt of --open-clip\.weights does not exist"):
            ask()
    assert not openclip_weights_present(settings)
    assert openclip_weights_present(settings_for(folder / "a.pt"))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_truncated_file_is_named(folder, tmp_path, name, share):
    content = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(GenLangSplatError, match=rf"{re.escape(str(tmp_path / name))}.*damaged"):
        OpenClipEncoder(settings_for(tmp_path / name))


@pytest.mark.parametrize("content", [{}, [1], torch.zeros(3), {"weight": torch.zeros(2)}], ids=str)
def test_a_file_that_holds_no_model_is_named(folder, tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(GenLangSplatError, match=r"weights\.pt.*damaged"):
        OpenClipEncoder(settings_for(tmp_path / "weights.pt"))


def test_a_file_that_would_run_code_is_refused(folder, tmp_path):
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"weight": Payload()}, tmp_path / "weights.pt")
    with pytest.raises(GenLangSplatError, match=r"weights\.pt.*damaged"):
        OpenClipEncoder(settings_for(tmp_path / "weights.pt"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_file_of_another_model_is_named_with_the_model(folder, name):
    with pytest.raises(GenLangSplatError, match=rf"{name}' could not be loaded into {WIDER_MODEL}.*open-clip\.model"):
        OpenClipEncoder(OpenClipSettings(model=WIDER_MODEL, weights=str(folder / name)))


def test_weights_that_are_not_there_are_not_fetched_but_the_way_is_named(tmp_path):
    assert not openclip_weights_present(OpenClipSettings())
    with pytest.raises(GenLangSplatError, match="--download-weights") as error:
        OpenClipEncoder(OpenClipSettings())
    assert DEFAULT_SOURCE in str(error.value)
    assert "ViT-B-16 laion2b_s34b_b88k" in str(error.value)
    assert "--open-clip.weights" in str(error.value)
    assert not (tmp_path / "hub").exists()


def publish(monkeypatch, **published: object) -> OpenClipSettings:
    """Registers the weights `first` of the tiny model in open_clip."""
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, MODEL, {"first": published})
    return OpenClipSettings(model=MODEL, weights="first")


def put_into_hub_cache(hub: Path, repository: str, name: str, content: bytes) -> Path:
    """Stores a file like the client of the Hugging Face hub."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(revision)
    (folder / "snapshots" / revision).mkdir(parents=True, exist_ok=True)
    path = folder / "snapshots" / revision / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("entry", "name", "source"),
    [
        ("tiny/clip/", "open_clip_model.safetensors", "a.safetensors"),
        ("tiny/clip/", "open_clip_pytorch_model.bin", "a.pt"),
        ("tiny/clip/other.safetensors", "other.safetensors", "a.safetensors"),
    ],
)
def test_published_weights_are_found_in_the_hub_cache(
    folder, encoder, tmp_path, monkeypatch, image, masks, entry, name, source
):
    settings = publish(monkeypatch, hf_hub=entry)
    assert not openclip_weights_present(settings)
    put_into_hub_cache(tmp_path / "hub", "tiny/clip", name, (folder / source).read_bytes())
    assert openclip_weights_present(settings)
    found = OpenClipEncoder(settings)
    assert found.identity == f"openclip/{MODEL}/first/1"
    torch.testing.assert_close(found.encode_regions(image, masks), encoder.encode_regions(image, masks))


def test_a_file_that_the_hub_is_known_not_to_have_is_passed_over(folder, tmp_path, monkeypatch):
    settings = publish(monkeypatch, hf_hub="tiny/clip/")
    found = put_into_hub_cache(
        tmp_path / "hub", "tiny/clip", "open_clip_pytorch_model.bin", (folder / "a.pt").read_bytes()
    )
    missing = found.parents[2] / ".no_exist" / found.parent.name / "open_clip_model.safetensors"
    missing.parent.mkdir(parents=True)
    missing.touch()
    OpenClipEncoder(settings)
    found.unlink()
    assert not openclip_weights_present(settings)


def test_published_weights_are_found_where_open_clip_puts_them(folder, encoder, tmp_path, monkeypatch, image, masks):
    settings = publish(monkeypatch, url="https://example.org/weights/first.pt")
    with pytest.raises(GenLangSplatError, match=r"from https://example\.org/weights/first\.pt"):
        OpenClipEncoder(settings)
    cache = tmp_path / "home" / ".cache" / "clip"
    cache.mkdir(parents=True)
    (cache / "first.pt").write_bytes((folder / "a.pt").read_bytes())
    assert openclip_weights_present(settings)
    rows = OpenClipEncoder(settings).encode_regions(image, masks)
    torch.testing.assert_close(rows, encoder.encode_regions(image, masks))


def test_the_default_weights_are_looked_for_under_their_repository(tmp_path):
    put_into_hub_cache(
        tmp_path / "hub", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "open_clip_model.safetensors", b"truncated"
    )
    assert openclip_weights_present(OpenClipSettings())
    assert not openclip_weights_present(OpenClipSettings(weights="datacomp_xl_s13b_b90k"))


def test_published_weights_bring_their_own_mean_and_deviation(folder, encoder, tmp_path, monkeypatch, image, masks):
    mean, std = (0.5, 0.4, 0.3), (0.5, 0.25, 0.5)
    settings = publish(monkeypatch, hf_hub="tiny/clip/", mean=mean, std=std)
    put_into_hub_cache(
        tmp_path / "hub", "tiny/clip", "open_clip_model.safetensors", (folder / "a.safetensors").read_bytes()
    )
    rows = OpenClipEncoder(settings).encode_regions(image, masks)
    expected = plain_embeddings(crops_of(image, masks), folder / "a.pt", mean, std)
    assert F.cosine_similarity(rows, expected).min() > 0.999
    assert F.cosine_similarity(encoder.encode_regions(image, masks), expected).min() < 0.99


def test_a_download_hands_open_clip_the_published_name(folder, monkeypatch, caplog, image, masks, encoder):
    settings, asked = publish(monkeypatch, hf_hub="tiny/clip/"), []

    def download(published: dict[str, object], **others: object) -> str:
        asked.append(published)
        return str(folder / "a.pt")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", download)
    rows = OpenClipEncoder(settings, download=True).encode_regions(image, masks)
    assert asked == [{"hf_hub": "tiny/clip/"}]
    torch.testing.assert_close(rows, encoder.encode_regions(image, masks))
    message = caplog.text
    assert "Downloading" in message
    assert "https://huggingface.co/tiny/clip/" in message


def test_weights_that_are_there_are_not_downloaded_again(folder, tmp_path, monkeypatch, caplog):
    settings = publish(monkeypatch, hf_hub="tiny/clip/")
    content = (folder / "a.safetensors").read_bytes()
    put_into_hub_cache(tmp_path / "hub", "tiny/clip", "open_clip_model.safetensors", content)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", None)
    OpenClipEncoder(settings, download=True)
    assert "Downloading" not in caplog.text


def test_a_download_that_fails_is_not_taken_for_damaged_weights(folder, monkeypatch):
    settings = publish(monkeypatch, hf_hub="tiny/clip/")
    with pytest.raises(GenLangSplatError, match="could not be downloaded") as error:
        OpenClipEncoder(settings, download=True)
    assert "https://huggingface.co/tiny/clip/" in str(error.value)
    assert "damaged" not in str(error.value)
