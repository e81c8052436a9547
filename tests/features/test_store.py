"""The feature store keeps what it is given, and never hands out anything else."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import STALE_SECONDS, FeatureStore, ViewFeatures

DIM = 8


def open_store(root: Path, identity: str = "fake/1", masks: dict[str, str | int | float] | None = None) -> FeatureStore:
    return FeatureStore.open(root, "fake", identity, DIM, "tiles", masks or {"size": 4})


def make_features(rng: np.random.Generator, count: int = 5, height: int = 6, width: int = 7) -> ViewFeatures:
    embeddings = torch.from_numpy(rng.standard_normal((count, DIM))).float()
    regions = torch.from_numpy(rng.integers(-1, count, (3, height, width))).int()
    return ViewFeatures(regions, torch.nn.functional.normalize(embeddings, dim=-1))


@pytest.fixture
def image(rng) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))


def assert_same(stored: ViewFeatures, given_: ViewFeatures) -> None:
    assert torch.equal(stored.regions, given_.regions)
    assert stored.regions.dtype == torch.int32
    assert stored.embeddings.dtype == torch.float32
    torch.testing.assert_close(stored.embeddings, given_.embeddings.half().float(), rtol=0, atol=0)


@settings(max_examples=20, deadline=None)
@given(
    count=st.sampled_from([0, 1, 126, 127, 128, 129, 40_000]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_what_is_saved_is_loaded(tmp_path_factory, count, height, width, seed):
    store = open_store(tmp_path_factory.mktemp("scene"))
    features = make_features(np.random.default_rng(seed), count, height, width)
    if count:
        features.regions[0, 0, 0] = count - 1
    store.save("view", features)
    assert "view" in store
    assert_same(store.load("view"), features)


@pytest.mark.parametrize(("count", "kind"), [(127, np.int8), (128, np.int16), (32_768, np.int32)])
def test_regions_take_the_smallest_type_that_holds_them(tmp_path, rng, count, kind):
    store = open_store(tmp_path)
    store.save("view", make_features(rng, count))
    with np.load(store.folder / "view.npz", allow_pickle=False) as file:
        assert file["regions"].dtype == kind
        assert file["embeddings"].dtype == np.float16


def test_the_folder_says_what_it_holds(tmp_path):
    store = open_store(tmp_path)
    assert store.folder.parent == tmp_path / "language_features"
    assert store.folder.name.startswith("fake-tiles-")
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert manifest["encoder_identity"] == "fake/1"
    assert manifest["mask_settings"] == {"size": 4}


def test_another_encoder_or_other_masks_have_a_folder_of_their_own(tmp_path):
    folders = {
        open_store(tmp_path).folder,
        open_store(tmp_path, identity="fake/2").folder,
        open_store(tmp_path, masks={"size": 5}).folder,
    }
    assert len(folders) == 3
    assert open_store(tmp_path).folder in folders


def test_the_key_names_the_view_and_follows_its_pixels(tmp_path, image):
    store = open_store(tmp_path)
    key = store.key("images/frame 1.2.jpg", image)
    assert key.startswith("frame_1.2-")
    assert key == store.key("elsewhere/frame 1.2.png", image.clone())
    changed = image.clone()
    changed[3, 3, 1] ^= 1
    others = {store.key("frame 1.2.jpg", other) for other in (changed, image[:-1], image.transpose(0, 1), image[:, 1:])}
    assert len(others) == 4
    assert key not in others
    assert key != store.key("frame 2.jpg", image)


def test_the_same_bytes_in_another_shape_are_another_view(tmp_path):
    store = open_store(tmp_path)
    assert store.key("a", torch.zeros(4, 6, 3, dtype=torch.uint8)) != store.key(
        "a", torch.zeros(6, 4, 3, dtype=torch.uint8)
    )


def test_a_changed_view_leaves_the_others_alone(tmp_path, rng, image):
    store = open_store(tmp_path)
    first, second = make_features(rng), make_features(rng)
    store.save(store.key("0001.jpg", image), first)
    store.save(store.key("0001.jpg", image[::2, ::2]), second)
    assert_same(store.load(store.key("0001.jpg", image)), first)
    assert_same(store.load(store.key("0001.jpg", image[::2, ::2])), second)


def damage_truncate(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def damage_flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def damage_text(path: Path, other: Path) -> None:
    path.write_text("not an archive")


def damage_plain_array(path: Path, other: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def damage_missing_array(path: Path, other: Path) -> None:
    np.savez(path, regions=np.zeros((3, 2, 2), np.int8))


def damage_pickle(path: Path, other: Path) -> None:
    np.savez(path, regions=np.array([{"a": 1}], dtype=object), embeddings=np.zeros((1, DIM)), origin=np.array(["", ""]))


def damage_other_view(path: Path, other: Path) -> None:
    shutil.copy(other, path)


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate,
        damage_empty,
        damage_flip,
        damage_text,
        damage_plain_array,
        damage_missing_array,
        damage_pickle,
        damage_other_view,
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_counts_as_missing(tmp_path, rng, capsys, damage):
    store = open_store(tmp_path)
    for key in ("view", "other"):
        store.save(key, make_features(rng))
    damage(store.folder / "view.npz", store.folder / "other.npz")
    assert "view" not in store
    assert "view.npz" in capsys.readouterr().out.replace("\n", "")
    with pytest.raises(GenLangSplatError, match=r"view\.npz"):
        store.load("view")
    features = make_features(rng)
    store.save("view", features)
    assert_same(store.load("view"), features)


def test_a_file_made_with_other_settings_counts_as_missing(tmp_path, rng):
    store, other = open_store(tmp_path), open_store(tmp_path, masks={"size": 5})
    other.save("view", make_features(rng))
    shutil.copy(other.folder / "view.npz", store.folder / "view.npz")
    assert "view" not in store


def test_a_view_that_was_never_saved_is_missing(tmp_path):
    store = open_store(tmp_path)
    assert "view" not in store
    with pytest.raises(GenLangSplatError, match="does not exist"):
        store.load("view")


@pytest.mark.parametrize("count", [2, 4])
def test_features_that_contradict_themselves_are_refused(tmp_path, rng, count):
    features = make_features(rng, 5)
    features.regions[0, 0, 0] = 4
    with pytest.raises(GenLangSplatError, match="regions run"):
        open_store(tmp_path).save("view", ViewFeatures(features.regions, features.embeddings[:count]))


def test_embeddings_that_do_not_fit_the_store_are_refused(tmp_path, rng):
    features = make_features(rng)
    store = open_store(tmp_path)
    with pytest.raises(GenLangSplatError, match=f"regions x {DIM}"):
        store.save("view", ViewFeatures(features.regions, features.embeddings[:, :-1]))
    with pytest.raises(GenLangSplatError, match="finite"):
        store.save("view", ViewFeatures(features.regions, features.embeddings * torch.nan))
    assert "view" not in store


def test_a_failed_save_leaves_the_old_features_and_no_litter(tmp_path, rng, monkeypatch):
    store = open_store(tmp_path)
    old = make_features(rng)
    store.save("view", old)

    def fail(path: Path, **arrays: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        store.save("view", make_features(rng))
    assert_same(store.load("view"), old)
    assert sorted(path.name for path in store.folder.iterdir()) == ["manifest.json", "view.npz"]


def test_what_killed_runs_left_is_cleared_but_not_what_a_running_one_writes(tmp_path):
    store = open_store(tmp_path)
    stale, fresh = store.folder / ".view-0123abcd.npz", store.folder / ".view-4567abcd.npz"
    for path in (stale, fresh):
        path.write_bytes(b"half")
    long_ago = time.time() - STALE_SECONDS - 60
    os.utime(stale, (long_ago, long_ago))
    open_store(tmp_path)
    assert not stale.exists()
    assert fresh.exists()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(folder / name))
    return folder


def unwritable(folder: Path) -> Path:
    """A data folder in which no store can be made; unlike permissions, this also stops the superuser."""
    folder.mkdir()
    (folder / "language_features").write_text("in the way")
    return folder


def test_features_of_a_read_only_data_folder_go_to_the_cache(tmp_path, rng, cache, capsys):
    root = unwritable(tmp_path / "scene")
    store = open_store(root)
    assert store.folder.is_relative_to(cache / "genlangsplat-ns")
    assert str(store.folder) in capsys.readouterr().out.replace("\n", "")
    features = make_features(rng)
    store.save("view", features)
    assert_same(open_store(root).load("view"), features)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_features_of_a_folder_without_write_permission_go_to_the_cache(tmp_path, cache):
    root = tmp_path / "scene"
    root.mkdir()
    root.chmod(0o555)
    try:
        assert open_store(root).folder.is_relative_to(cache)
    finally:
        root.chmod(0o755)


def test_two_read_only_scenes_do_not_share_a_cache_folder(tmp_path, cache):
    stores = [open_store(unwritable(tmp_path / name)) for name in ("first", "second")]
    assert stores[0].folder != stores[1].folder


def test_no_writable_folder_at_all_is_an_error_that_names_both(tmp_path, cache):
    cache.write_text("in the way too")
    with pytest.raises(GenLangSplatError, match=r"(?s)scene.*cache"):
        open_store(unwritable(tmp_path / "scene"))


def test_a_scene_that_does_not_exist_is_refused_and_not_made(tmp_path):
    with pytest.raises(GenLangSplatError, match="not a folder"):
        open_store(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
