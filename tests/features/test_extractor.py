"""Choice of masks and encoder: `auto`, the identity of the store, and loading of models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import encoders, extractor
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.settings import FeatureSettings, OpenClipSettings, SamSettings
from genlangsplat_ns.levels import LEVELS
from tests.features.fakes import MeanColorEncoder, TileMasks, make_views

CHOSEN = FeatureSettings(encoder="openclip", masks="sam")


@pytest.fixture(autouse=True)
def weights(monkeypatch) -> dict[str, bool]:
    """The weights on this machine; none by default."""
    present = {"openclip": False, "sam": False}
    monkeypatch.setattr(extractor, "openclip_weights_present", lambda settings: present["openclip"])
    monkeypatch.setattr(extractor, "find_checkpoint", lambda settings: Path("sam.pth") if present["sam"] else None)
    return present


@pytest.fixture(autouse=True)
def loaded(monkeypatch) -> list[tuple[object, ...]]:
    """Records the loaded models in order, and returns fakes."""
    calls: list[tuple[object, ...]] = []

    def load_masks(*asked: object) -> TileMasks:
        calls.append(("masks", *asked))
        return TileMasks()

    def load_encoder(*asked: object) -> MeanColorEncoder:
        calls.append(("encoder", *asked))
        return MeanColorEncoder()

    monkeypatch.setattr(extractor, "load_mask_generator", load_masks)
    monkeypatch.setattr(extractor, "load_encoder", load_encoder)
    return calls


def names(made: FeatureExtractor) -> tuple[str, str]:
    return made.encoder_name, made.mask_name


def said(caplog) -> str:
    """The messages since the last call."""
    messages = " ".join(caplog.messages)
    caplog.clear()
    return messages


def test_auto_without_cuda_takes_what_needs_no_weights_and_says_why(weights, loaded, caplog):
    weights.update(openclip=True, sam=True)
    assert names(FeatureExtractor(FeatureSettings(download_weights=True))) == ("conse", "watershed")
    assert said(caplog) == ("Language features: encoder conse and masks watershed, because there is no CUDA.")
    assert loaded == []


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
@pytest.mark.parametrize(("openclip", "encoder"), [(False, "conse"), (True, "openclip")])
@pytest.mark.parametrize(("sam", "masks"), [(False, "watershed"), (True, "sam")])
def test_auto_on_cuda_takes_the_models_whose_weights_are_there(
    weights, loaded, caplog, device, openclip, encoder, sam, masks
):
    weights.update(openclip=openclip, sam=sam)
    assert names(FeatureExtractor(FeatureSettings(), device)) == (encoder, masks)
    message = said(caplog)
    assert f"encoder {encoder}" in message
    assert f"masks {masks}" in message
    # A common reason is given once.
    assert ("weights are not on this machine (see --download-weights)" in message) == (not (openclip and sam))
    assert loaded == []


def test_auto_on_cuda_takes_the_models_when_their_weights_may_be_downloaded(loaded, caplog):
    assert names(FeatureExtractor(FeatureSettings(download_weights=True), "cuda")) == ("openclip", "sam")
    assert said(caplog) == "Language features: encoder openclip; masks sam."
    assert loaded == []


def test_auto_looks_for_the_weights_that_are_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(extractor, "openclip_weights_present", lambda settings: asked.append(settings) or True)
    monkeypatch.setattr(extractor, "find_checkpoint", lambda settings: asked.append(settings))
    open_clip, sam = OpenClipSettings(weights="datacomp_xl_s13b_b90k"), SamSettings(model="vit_b")
    FeatureExtractor(FeatureSettings(open_clip=open_clip, sam=sam), "cuda")
    assert asked == [open_clip, sam]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_chosen_is_taken_without_a_word(caplog, device):
    for encoder in ("conse", "openclip"):
        for masks in ("watershed", "sam", "langsplat"):
            made = FeatureExtractor(FeatureSettings(encoder=encoder, masks=masks), device)
            assert names(made) == (encoder, masks)
    assert said(caplog) == ""


def test_auto_for_one_of_two_leaves_the_other_and_speaks_of_the_one(caplog):
    assert names(FeatureExtractor(FeatureSettings(encoder="openclip"))) == ("openclip", "watershed")
    assert said(caplog) == "Language features: masks watershed, because there is no CUDA."
    assert names(FeatureExtractor(FeatureSettings(masks="sam"))) == ("conse", "sam")
    assert said(caplog) == "Language features: encoder conse, because there is no CUDA."


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_converted_masks_bring_the_encoder_they_were_made_with(device):
    assert names(FeatureExtractor(FeatureSettings(masks="langsplat"), device)) == ("openclip", "langsplat")


def test_the_encoder_has_its_identity_before_anything_is_loaded(loaded):
    assert FeatureExtractor(CHOSEN).encoder_identity == "openclip/ViT-B-16/laion2b_s34b_b88k/1"
    assert FeatureExtractor(FeatureSettings()).encoder_identity == encoders.encoder_identity("conse")
    assert loaded == []


def test_weights_named_by_a_file_that_is_not_there_are_refused_at_once(tmp_path):
    settings = replace(CHOSEN, open_clip=OpenClipSettings(weights=str(tmp_path / "gone.pt")))
    with pytest.raises(GenLangSplatError, match=r"gone\.pt"):
        FeatureExtractor(settings)


def test_the_store_belongs_to_encoder_masks_settings_and_levels(tmp_path):
    (tmp_path / "clip.pt").write_bytes(b"weights")
    (tmp_path / "sam.pth").write_bytes(b"weights")
    others = [
        CHOSEN,
        replace(CHOSEN, encoder="conse"),
        replace(CHOSEN, masks="watershed"),
        replace(CHOSEN, masks="langsplat"),
        replace(CHOSEN, open_clip=OpenClipSettings(model="ViT-L-14", weights="laion2b_s32b_b82k")),
        replace(CHOSEN, open_clip=OpenClipSettings(weights="datacomp_xl_s13b_b90k")),
        replace(CHOSEN, open_clip=OpenClipSettings(weights=str(tmp_path / "clip.pt"))),
        replace(CHOSEN, sam=SamSettings(model="vit_b")),
        replace(CHOSEN, sam=SamSettings(checkpoint=tmp_path / "sam.pth")),
        replace(CHOSEN, sam=SamSettings(points_per_side=16)),
        replace(CHOSEN, sam=SamSettings(mask_nms_inner=0.6)),
        replace(CHOSEN, levels=("part",)),
        replace(CHOSEN, levels=("part", "whole")),
    ]
    digests = [FeatureExtractor(settings).store_identity.digest for settings in others]
    assert len(set(digests)) == len(others)


def test_the_store_stays_the_same_whatever_the_models_run_on(tmp_path):
    same = [
        FeatureExtractor(CHOSEN),
        FeatureExtractor(CHOSEN, "cuda"),
        FeatureExtractor(replace(CHOSEN, download_weights=True)),
        FeatureExtractor(replace(CHOSEN, open_clip=OpenClipSettings(batch_size=3, precision="bf16"))),
        FeatureExtractor(replace(CHOSEN, sam=SamSettings(points_per_batch=8))),
    ]
    assert len({made.store_identity.digest for made in same}) == 1
    assert len({made.open_store(tmp_path).folder for made in same}) == 1


def test_settings_of_models_that_are_not_used_do_not_move_the_store(tmp_path):
    light = FeatureSettings(encoder="conse", masks="watershed")
    others = replace(light, open_clip=OpenClipSettings(model="ViT-L-14"), sam=SamSettings(model="vit_b"))
    assert FeatureExtractor(light).store_identity == FeatureExtractor(others).store_identity


def test_auto_and_the_names_it_stands_for_share_a_store():
    named = FeatureExtractor(FeatureSettings(encoder="conse", masks="watershed"))
    assert FeatureExtractor(FeatureSettings()).store_identity == named.store_identity


def test_the_identity_says_what_the_features_are():
    identity = FeatureExtractor(CHOSEN).store_identity
    assert (identity.encoder, identity.masks, identity.embedding_dim) == ("openclip", "sam", 512)
    larger = replace(CHOSEN, open_clip=OpenClipSettings(model="ViT-L-14", weights="laion2b_s32b_b82k"))
    assert FeatureExtractor(larger).store_identity.embedding_dim == 768
    assert identity.mask_settings["points_per_side"] == 32
    assert identity.levels == LEVELS
    assert FeatureExtractor(FeatureSettings(masks="langsplat")).store_identity.mask_settings == {}


def test_levels_count_in_their_own_order_and_once():
    levels = (("whole", "subpart"), ("subpart", "whole"), ("whole", "subpart", "whole"))
    identities = [FeatureExtractor(replace(CHOSEN, levels=named)).store_identity for named in levels]
    assert identities[0].levels == ("subpart", "whole")
    assert identities[0] == identities[1] == identities[2]
    assert len({identity.digest for identity in identities}) == 1


def test_no_level_at_all_is_refused(tmp_path):
    made = FeatureExtractor(replace(CHOSEN, levels=()))
    with pytest.raises(GenLangSplatError, match="at least one of subpart, part, whole"):
        made.open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_models_get_the_settings_and_the_device_and_texts_run_on_the_cpu(loaded):
    settings = replace(CHOSEN, sam=SamSettings(model="vit_b"), open_clip=OpenClipSettings(batch_size=3))
    for download in (False, True):
        made = FeatureExtractor(replace(settings, download_weights=download), torch.device("cuda:0"))
        made.load_text_encoder()
        assert made._load_region_encoder() is not None
        assert made._masks is not None
        assert loaded == [
            ("encoder", "openclip", "cpu", settings.open_clip, download),
            ("encoder", "openclip", "cuda:0", settings.open_clip, download),
            ("masks", "sam", settings.sam, "cuda:0", download),
        ]
        loaded.clear()


@pytest.fixture
def small(monkeypatch) -> FeatureExtractor:
    """An extractor with a fake encoder."""
    monkeypatch.setattr(extractor, "encoder_identity", lambda *asked: MeanColorEncoder.identity)
    monkeypatch.setattr(extractor, "encoder_embedding_dim", lambda *asked: MeanColorEncoder.embedding_dim)
    return FeatureExtractor(FeatureSettings(encoder="conse", masks="watershed", levels=("part",)))


def test_views_are_extracted_with_the_chosen_models_at_the_chosen_levels(small, loaded, tmp_path):
    store = small.open_store(tmp_path)
    keys = small.extract(make_views(2), store)
    assert [call[:2] for call in loaded] == [("masks", "watershed"), ("encoder", "conse")]
    for key in keys:
        regions = store.load(key).regions
        assert [bool((level >= 0).any()) for level in regions] == [False, True, False]


def test_models_are_loaded_only_for_views_that_are_missing_and_again_after_release(
    small, loaded, tmp_path, monkeypatch
):
    registry: dict[object, object] = {"conse": MeanColorEncoder()}
    monkeypatch.setattr(encoders, "loaded_encoders", registry)
    store, views = small.open_store(tmp_path), make_views(3)
    small.extract(views[:1], store)
    loaded.clear()
    small.extract(views[:1], store)
    assert loaded == []
    small.extract(views[:2], store)
    assert [call[0] for call in loaded] == ["encoder"]
    small.release()
    assert registry == {}
    loaded.clear()
    small.extract(views, store)
    assert [call[0] for call in loaded] == ["masks", "encoder"]


def test_releasing_before_anything_was_loaded_does_nothing(small, loaded):
    small.release()
    assert loaded == []


def test_converted_masks_that_are_missing_are_answered_with_the_command_that_converts(tmp_path, monkeypatch):
    monkeypatch.undo()
    made = FeatureExtractor(FeatureSettings(masks="langsplat"))
    with pytest.raises(GenLangSplatError, match="gen-langsplat convert"):
        made.extract(make_views(1), made.open_store(tmp_path))


def test_everything_that_is_missing_is_named_at_once(loaded, monkeypatch):
    monkeypatch.setattr("genlangsplat_ns.features.sam_weights.find_checkpoint", lambda settings: None)
    monkeypatch.setattr("genlangsplat_ns.features.open_clip_encoder.find_weights", lambda settings: None)
    made = FeatureExtractor(CHOSEN)
    with pytest.raises(GenLangSplatError, match=r"(?s)sam_vit_h_4b8939\.pth.*ViT-B-16 laion2b_s34b_b88k"):
        made._load_masks()
    assert loaded == []
