"""CLIP by open_clip: regions cut as LangSplat cuts them, texts, where weights come from, and what goes wrong."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import huggingface_hub.constants
import numpy as np
import open_clip
import open_clip.factory
import open_clip.pretrained
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from genlangsplat_ns.cpu_products import fast_products
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import encoders
from genlangsplat_ns.features.encoders import (
    ImageTextEncoder,
    encoder_embedding_dim,
    encoder_identity,
    load_encoder,
    release_encoders,
)
from genlangsplat_ns.features.open_clip_encoder import OpenClipEncoder, openclip_weights_present
from genlangsplat_ns.features.regions import RegionMask, ViewMasks
from genlangsplat_ns.features.settings import OpenClipSettings

DIM, SIDE = 16, 32

MODEL, WIDER_MODEL = "tiny-clip", "tiny-clip-wide"

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own, which LangSplat uses."""

DEFAULT_SOURCE = "https://huggingface.co/laion/CLIP-ViT-B-16-laion2B-s34B-b88K"


def model_config(vision_width: int) -> dict[str, object]:
    return {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": vision_width, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """Two tiny models that open_clip knows, and random weights `a.pt`, `a.safetensors` and `b.pt` of the first."""
    paths, configs = list(open_clip.factory._MODEL_CONFIG_PATHS), dict(open_clip.factory._MODEL_CONFIGS)
    folder = tmp_path_factory.mktemp("clip")
    (folder / f"{MODEL}.json").write_text(json.dumps(model_config(32)))
    (folder / f"{WIDER_MODEL}.json").write_text(json.dumps(model_config(48)))
    open_clip.add_model_config(folder)
    for seed, name in enumerate("ab"):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            state = open_clip.create_model(MODEL).state_dict()
        # An untrained model hardly looks at the picture; louder layers make every pixel count.
        for key, values in state.items():
            if key.startswith("visual.transformer") and values.ndim == 2:
                values *= 3
        torch.save(state, folder / f"{name}.pt")
    save_file(torch.load(folder / "a.pt"), folder / "a.safetensors")
    yield folder
    open_clip.factory._MODEL_CONFIG_PATHS[:] = paths
    open_clip.factory._MODEL_CONFIGS = configs


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch) -> None:
    """No network, and caches of weights that are empty."""

    def refuse(*args: object) -> None:
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch) -> None:
    """The encoders of other tests stay out of these, and the other way round."""
    monkeypatch.setattr(encoders, "_loaded", {})


def settings_for(weights: Path, **others: object) -> OpenClipSettings:
    return OpenClipSettings(model=MODEL, weights=str(weights), **others)  # type: ignore[arg-type]


@pytest.fixture
def encoder(folder) -> OpenClipEncoder:
    return OpenClipEncoder(settings_for(folder / "a.pt"))


@pytest.fixture
def image(rng) -> torch.Tensor:
    """Soft colours with noise on them."""
    coarse = cv2.resize(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8), (120, 90), interpolation=cv2.INTER_CUBIC)
    noisy = coarse.astype(np.int64) + rng.integers(-40, 41, coarse.shape)
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture
def masks() -> ViewMasks:
    """Eleven masks of three levels: tall, wide, square, tiny and larger than the model's picture; some overlap."""
    rows, columns = np.mgrid[:90, :120]
    found = [np.hypot(rows - 45, columns - 60) < 40, np.hypot(rows - 20, columns - 90) < 17]
    found += [(rows > 10) & (rows < 80) & (abs(columns - 30 - rows / 3) < 6), (rows < 7) & (columns > 20)]
    found += [(rows == 40) & (columns == 33), (rows // 9 + columns // 11) % 3 == 0, rows >= 0]
    found += [(abs(rows - 50) < 16) & (abs(columns - 80) < 16), rows > 80, columns < 12, (rows + columns) % 2 == 0]
    return ViewMasks(90, 120, 3, [RegionMask.of_pixels(number % 3, pixels) for number, pixels in enumerate(found)])


def langsplat_crop(image: np.ndarray, mask: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """One region, cut out the way LangSplat's preprocessing does it, in bytes."""
    image = image.copy()
    image[~mask] = 0
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = cut.shape[:2]
    length = max(height, width)
    square = np.zeros((length, length, 3), dtype=np.uint8)
    if height > width:
        square[:, (height - width) // 2 : (height - width) // 2 + width] = cut
    else:
        square[(width - height) // 2 : (width - height) // 2 + height] = cut
    return cv2.resize(square, (SIDE, SIDE), interpolation=interpolation)


def plain_embeddings(
    crops: list[np.ndarray], weights: Path, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> torch.Tensor:
    """Embeds crops one at a time."""
    model = open_clip.create_model(MODEL, pretrained=str(weights)).eval()
    rows = []
    for crop in crops:
        pixels = ((crop / 255.0 - np.array(mean)) / np.array(std)).transpose(2, 0, 1)
        with torch.no_grad():
            row = model.encode_image(torch.from_numpy(pixels[None]).float())[0]
        rows.append(row / row.norm())
    return torch.stack(rows)


def crops_of(image: torch.Tensor, masks: ViewMasks, interpolation: int = cv2.INTER_LINEAR) -> list[np.ndarray]:
    return [langsplat_crop(image.numpy(), mask.pixels(90, 120), interpolation) for mask in masks.masks]


@pytest.mark.parametrize("weights", ["a.pt", "a.safetensors"])
def test_regions_are_embedded_as_langsplat_does_one_crop_at_a_time(folder, image, masks, weights):
    rows = OpenClipEncoder(settings_for(folder / weights, batch_size=4)).encode_regions(image, masks)
    expected = plain_embeddings(crops_of(image, masks), folder / "a.pt")
    assert F.cosine_similarity(rows, expected).min() > 0.999
    # The bar tells something only because other regions, and crops scaled otherwise, fall below it.
    assert (expected @ expected.T - 2 * torch.eye(len(masks))).max() < 0.999
    averaged = plain_embeddings(crops_of(image, masks, cv2.INTER_AREA), folder / "a.pt")
    assert F.cosine_similarity(averaged, expected).min() < 0.99


@pytest.mark.parametrize("batch_size", [1, 2, 3, 11, 500])
def test_rows_keep_the_order_of_the_masks_for_any_batch_size(folder, encoder, image, masks, batch_size):
    batched = OpenClipEncoder(settings_for(folder / "a.pt", batch_size=batch_size))
    sizes: list[int] = []
    hook = batched._model.visual.register_forward_pre_hook(lambda model, inputs: sizes.append(len(inputs[0])))
    rows = batched.encode_regions(image, masks)
    hook.remove()
    assert sum(sizes) == len(masks)
    assert max(sizes) == min(batch_size, len(masks))
    torch.testing.assert_close(rows, encoder.encode_regions(image, masks), atol=1e-5, rtol=0)
    backwards = ViewMasks(90, 120, 3, masks.masks[::-1])
    torch.testing.assert_close(batched.encode_regions(image, backwards), rows.flip(0), atol=1e-5, rtol=0)


def test_rows_are_unit_vectors_of_single_precision(encoder, image, masks):
    rows = encoder.encode_regions(image, masks)
    assert rows.shape == (11, DIM)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(11))


def test_half_precision_gives_nearly_the_same_rows(folder, encoder, image, masks):
    halved = OpenClipEncoder(settings_for(folder / "a.pt", precision="bf16"))
    rows, expected = halved.encode_regions(image, masks), encoder.encode_regions(image, masks)
    assert rows.dtype == torch.float32
    assert 0.99 < F.cosine_similarity(rows, expected).min() < 1 - 1e-7
    assert F.cosine_similarity(halved.encode_texts(["a fox"]), encoder.encode_texts(["a fox"])).item() > 0.99


def test_a_view_without_regions_gives_no_rows(encoder, image):
    rows = encoder.encode_regions(image, ViewMasks(90, 120, 3, []))
    assert rows.shape == (0, DIM)


def test_an_overlapped_mask_is_embedded_whole(encoder, image):
    below, above = np.zeros((90, 120), dtype=bool), np.zeros((90, 120), dtype=bool)
    below[10:60, 10:60] = True
    above[20:50, 30:110] = True
    both = [RegionMask.of_pixels(0, pixels) for pixels in (below, above)]
    alone = torch.cat([encoder.encode_regions(image, ViewMasks(90, 120, 1, [mask])) for mask in both])
    torch.testing.assert_close(encoder.encode_regions(image, ViewMasks(90, 120, 1, both)), alone, atol=1e-5, rtol=0)
    remainder = ViewMasks(90, 120, 1, [RegionMask.of_pixels(0, below & ~above)])
    assert F.cosine_similarity(encoder.encode_regions(image, remainder), alone[:1]).item() < 0.99


def test_texts_are_unit_vectors_that_do_not_depend_on_their_company(encoder):
    texts = ["a fox", "an old wooden picture frame on a papered wall", "cat"]
    together = encoder.encode_texts(texts)
    alone = torch.cat([encoder.encode_texts([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    assert F.cosine_similarity(together[0], together[1], dim=0) < 0.99
    assert encoder.encode_texts([]).shape == (0, DIM)


def test_texts_are_what_open_clip_makes_of_them(folder, encoder):
    model = open_clip.create_model(MODEL, pretrained=str(folder / "a.pt")).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer(MODEL)(["a fox", "cat"]), normalize=True)
    torch.testing.assert_close(encoder.encode_texts(["a fox", "cat"]), expected, atol=1e-5, rtol=0)


def test_the_sentences_around_a_text_are_averaged(folder, encoder):
    templates = ("a photo of a {}.", "{}", "a drawing of {} in {}.")
    rows = OpenClipEncoder(settings_for(folder / "a.pt", templates=templates)).encode_texts(["fox", "red cup"])
    for row, text in zip(rows, ["fox", "red cup"], strict=True):
        sentences = encoder.encode_texts([f"a photo of a {text}.", text, f"a drawing of {text} in {text}."])
        torch.testing.assert_close(row, F.normalize(sentences.mean(dim=0), dim=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_blank_text_is_refused(encoder, text):
    with pytest.raises(GenLangSplatError, match="blank"):
        encoder.encode_texts(["a fox", text])


def test_the_identity_of_published_weights_is_their_name():
    assert encoder_identity("openclip") == "openclip/ViT-B-16/laion2b_s34b_b88k/1"


def test_the_identity_of_a_file_is_its_hash(folder, encoder, tmp_path):
    identities = {encoder_identity("openclip", settings_for(folder / name)) for name in ("a.pt", "b.pt")}
    assert len(identities) == 2
    assert encoder.identity in identities
    assert re.fullmatch(rf"openclip/{MODEL}/a\.pt@[0-9a-f]{{12}}/1", encoder.identity)
    (tmp_path / "a.pt").write_bytes((folder / "a.pt").read_bytes())
    assert encoder_identity("openclip", settings_for(tmp_path / "a.pt")) == encoder.identity


def test_the_identity_follows_a_file_that_is_replaced(tmp_path):
    settings = settings_for(tmp_path / "weights.pt")
    identities = []
    for content in (b"first", b"the second"):
        (tmp_path / "weights.pt").write_bytes(content)
        identities.append(encoder_identity("openclip", settings))
    assert identities[0] != identities[1]


def test_the_width_of_embeddings_comes_from_the_table_of_models(folder, monkeypatch):
    monkeypatch.setattr(open_clip, "create_model", None)
    assert encoder_embedding_dim("openclip") == 512
    assert encoder_embedding_dim("openclip", OpenClipSettings(model="ViT-H-14", weights="laion2b_s32b_b79k")) == 1024
    assert encoder_embedding_dim("openclip", OpenClipSettings(model=MODEL)) == DIM


def test_the_default_model_has_the_recorded_shapes():
    with torch.device("meta"):
        model = open_clip.create_model(OpenClipSettings().model, device="meta")
        row = model.encode_image(torch.zeros(1, 3, 224, 224))
    assert sum(weight.numel() for weight in model.parameters()) == 149_620_737
    assert open_clip.get_model_preprocess_cfg(model)["size"] in (224, (224, 224))
    assert row.shape == (1, encoder_embedding_dim("openclip"))


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
        with pytest.raises(GenLangSplatError, match=r"no file .*gone\.pt.*open-clip\.weights"):
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
    """Makes open_clip know the weights `first` of the tiny model."""
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, MODEL, {"first": published})
    return OpenClipSettings(model=MODEL, weights="first")


def put_into_hub_cache(hub: Path, repository: str, name: str, content: bytes) -> Path:
    """Lays a file down as the client of the Hugging Face hub does."""
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


def test_a_download_hands_open_clip_the_published_name(folder, monkeypatch, capsys, image, masks, encoder):
    settings, asked = publish(monkeypatch, hf_hub="tiny/clip/"), []

    def download(published: dict[str, object], **others: object) -> str:
        asked.append(published)
        return str(folder / "a.pt")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", download)
    rows = OpenClipEncoder(settings, download=True).encode_regions(image, masks)
    assert asked == [{"hf_hub": "tiny/clip/"}]
    torch.testing.assert_close(rows, encoder.encode_regions(image, masks))
    message = capsys.readouterr().out.replace("\n", "")
    assert "Downloading" in message
    assert "https://huggingface.co/tiny/clip/" in message


def test_weights_that_are_there_are_not_downloaded_again(folder, tmp_path, monkeypatch, capsys):
    settings = publish(monkeypatch, hf_hub="tiny/clip/")
    content = (folder / "a.safetensors").read_bytes()
    put_into_hub_cache(tmp_path / "hub", "tiny/clip", "open_clip_model.safetensors", content)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", None)
    OpenClipEncoder(settings, download=True)
    assert "Downloading" not in capsys.readouterr().out


def test_a_download_that_fails_is_not_taken_for_damaged_weights(folder, monkeypatch):
    settings = publish(monkeypatch, hf_hub="tiny/clip/")
    with pytest.raises(GenLangSplatError, match="could not be downloaded") as error:
        OpenClipEncoder(settings, download=True)
    assert "https://huggingface.co/tiny/clip/" in str(error.value)
    assert "damaged" not in str(error.value)


def test_a_tokenizer_that_is_not_on_this_machine_is_named(encoder, monkeypatch):
    def refuse(model: str) -> None:
        raise OSError("We couldn't connect to the hub.\nMore lines.")

    monkeypatch.setattr(open_clip, "get_tokenizer", refuse)
    with pytest.raises(GenLangSplatError, match=rf"tokenizer of {MODEL}.*couldn't connect to the hub\.\).*ViT-B-16"):
        encoder.encode_texts(["a fox"])


def test_an_encoder_is_loaded_once_until_it_is_released(folder):
    settings = settings_for(folder / "a.pt")
    first = load_encoder("openclip", open_clip=settings)
    assert load_encoder("openclip", open_clip=settings_for(folder / "a.pt")) is first
    other = load_encoder("openclip", open_clip=settings_for(folder / "b.pt"))
    assert other.identity != first.identity
    release_encoders()
    again = load_encoder("openclip", open_clip=settings)
    assert again is not first
    assert again.identity == first.identity


def test_the_encoder_keeps_the_promises_of_all_encoders(folder, encoder):
    assert isinstance(encoder, ImageTextEncoder)
    settings = settings_for(folder / "a.pt")
    assert encoder.name == "openclip"
    assert encoder.identity == encoder_identity("openclip", settings)
    assert encoder.embedding_dim == encoder_embedding_dim("openclip", settings)


def test_the_encoder_stays_out_of_checkpoints_of_modules_that_hold_it(encoder):
    holder = torch.nn.Module()
    holder.encoder = encoder
    assert holder.state_dict() == {}
    assert list(holder.parameters()) == []


@pytest.fixture
def fp32_precision() -> Iterator[object]:
    """torch's switch, as it was found and so it is left."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None or not hasattr(torch.cpu, "_is_amx_tile_supported"):
        pytest.skip("this torch has no such switch")
    before = matmul.fp32_precision
    yield matmul
    matmul.fp32_precision = before


def test_fast_products_are_as_exact_as_others():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(96, 768, generator=generator), torch.randn(768, 200, generator=generator)
    layer = torch.nn.Linear(768, 200, bias=False)
    layer.weight.data = right.T.contiguous()
    exact = (left.double() @ right.double()).float()
    with fast_products(), torch.no_grad():
        for product in (left @ right, layer(left)):
            assert (product - left @ right).norm() / exact.norm() < 1e-5
            assert (product - exact).norm() / exact.norm() < 1e-5
    assert (left @ right - exact).norm() / exact.norm() < 1e-5


@pytest.mark.parametrize(("has_tiles", "inside"), [(False, "bf16"), (True, "ieee")])
def test_fast_products_switch_nothing_where_the_processor_has_tiles(monkeypatch, fp32_precision, has_tiles, inside):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles)
    fp32_precision.fp32_precision = "ieee"
    with fast_products():
        assert fp32_precision.fp32_precision == (inside if torch.backends.mkldnn.is_available() else "ieee")


@pytest.mark.parametrize("before", ["ieee", "none", "bf16"])
def test_fast_products_restore_the_setting_also_after_an_error(monkeypatch, fp32_precision, before):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    fp32_precision.fp32_precision = before
    with fast_products():
        pass
    assert fp32_precision.fp32_precision == before
    with pytest.raises(ZeroDivisionError), fast_products():
        _ = 1 / 0
    assert fp32_precision.fp32_precision == before


@pytest.mark.parametrize("name", ["_is_amx_tile_supported", "matmul"])
def test_fast_products_leave_older_releases_of_torch_alone(monkeypatch, name):
    for holder in (torch.cpu, type(torch.backends.mkldnn)):
        monkeypatch.delattr(holder, name, raising=False)
    with fast_products():
        torch.testing.assert_close(torch.eye(3) @ torch.eye(3), torch.eye(3))
