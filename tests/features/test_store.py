"""The feature store returns exactly the stored features."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path
from threading import Thread
from unittest.mock import Mock

import numpy as np
import platformdirs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.spatial import cKDTree

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity, ViewFeatures
from genlangsplat_ns.features.view_file import write_view_file
from genlangsplat_ns.levels import LEVELS

DIM = 8


def open_store(root: Path, identity: str = "fake/1", masks: dict[str, str | int | float] | None = None) -> FeatureStore:
    return FeatureStore.open(root, StoreIdentity("fake", identity, DIM, "tiles", masks or {"size": 4}, LEVELS))


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


@pytest.mark.parametrize(("count", "kind"), [(255, "uint8"), (256, "uint16"), (65_536, "uint32")])
def test_regions_take_the_smallest_type_that_holds_a_level(tmp_path, rng, count, kind):
    store = open_store(tmp_path)
    features = make_features(rng, 3 * count)
    # Each level is numbered from its own first region, so three levels need no larger integers than one.
    for level in range(3):
        features.regions[level] = features.regions[level] % count + level * count
        features.regions[level, 0, :2] = torch.tensor([level * count, (level + 1) * count - 1])
    store.save("view", features)
    with safe_open(store.folder / "view.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["view"])["regions"]["type"] == kind
        assert file.get_tensor("embeddings").dtype == torch.float16
    assert_same(store.load("view"), features)


def test_equal_features_give_equal_files(tmp_path, rng):
    features, files = make_features(rng), []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        store = open_store(tmp_path / name)
        store.save("view", features)
        files.append((store.folder / "view.safetensors").read_bytes())
    assert files[0] == files[1]


def test_other_users_may_read_what_the_folder_lets_them(tmp_path, rng):
    store = open_store(tmp_path)
    store.save("view", make_features(rng))
    mode = (store.folder / "view.safetensors").stat().st_mode
    assert mode & 0o777 == (store.folder / "manifest.json").stat().st_mode & 0o777


def test_a_large_scene_stays_small_on_disk(tmp_path, rng):
    """300 views of 988x731 with 100 regions at each of four levels take 150 MB, half a megabyte per view."""
    rows, columns = np.mgrid[:731, :988]
    waves = np.stack([12 * np.sin(columns / 17 + rows / 29), 12 * np.cos(rows / 13 - columns / 31)], axis=-1)
    pixels = (np.stack([rows, columns], axis=-1) + waves).reshape(-1, 2)
    levels = [cKDTree(rng.uniform(0, 1, (100, 2)) * [731, 988]).query(pixels)[1] + 100 * level for level in range(4)]
    regions = torch.from_numpy(np.stack(levels).reshape(4, 731, 988)).int()
    embeddings = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((400, 512))).float(), dim=-1)
    write_view_file(tmp_path / "view.safetensors", ViewFeatures(regions, embeddings), ["store", "view"])
    assert (tmp_path / "view.safetensors").stat().st_size <= 150e6 / 300


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


def test_the_key_follows_the_mask(tmp_path, image):
    store = open_store(tmp_path)
    kept = torch.ones(image.shape[:2], dtype=torch.bool)
    key = store.key("0001.jpg", image)
    assert key == store.key("0001.jpg", image, None) == store.key("0001.jpg", image, kept)
    masks = [kept.clone() for _ in range(3)]
    masks[0][0, 0] = masks[1][0, 1] = masks[2][:] = False
    assert len({key, *(store.key("0001.jpg", image, mask) for mask in masks)}) == 4


def test_the_key_of_a_view_without_a_mask_is_that_of_existing_stores(tmp_path):
    image = torch.arange(4 * 5 * 3, dtype=torch.uint8).reshape(4, 5, 3)
    assert open_store(tmp_path).key("images/0001.jpg", image) == "0001-c6bca15e68171d2f"


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
    content[-9] ^= 0xFF
    path.write_bytes(content)


def damage_flip_in_embeddings(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + 3] ^= 0x01
    path.write_bytes(content)


def damage_text(path: Path, other: Path) -> None:
    path.write_text("not an archive")


def damage_missing_tensor(path: Path, other: Path) -> None:
    save_file({"embeddings": torch.zeros(1, DIM)}, path, metadata={"view": "{}"})


def damage_no_header(path: Path, other: Path) -> None:
    save_file({"embeddings": torch.zeros(1, DIM), "regions": torch.zeros(3, dtype=torch.uint8)}, path)


def damage_pickle(path: Path, other: Path) -> None:
    torch.save({"embeddings": torch.zeros(1, DIM)}, path)


def damage_other_view(path: Path, other: Path) -> None:
    shutil.copy(other, path)


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate,
        damage_empty,
        damage_flip,
        damage_flip_in_embeddings,
        damage_text,
        damage_missing_tensor,
        damage_no_header,
        damage_pickle,
        damage_other_view,
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_counts_as_missing(tmp_path, rng, caplog, damage):
    store = open_store(tmp_path)
    for key in ("view", "other"):
        store.save(key, make_features(rng))
    damage(store.folder / "view.safetensors", store.folder / "other.safetensors")
    assert "view" not in store
    assert "view.safetensors" in caplog.text
    with pytest.raises(GenLangSplatError, match=r"view\.safetensors"):
        store.load("view")
    features = make_features(rng)
    store.save("view", features)
    assert_same(store.load("view"), features)


def test_a_file_made_with_other_settings_counts_as_missing(tmp_path, rng):
    store, other = open_store(tmp_path), open_store(tmp_path, masks={"size": 5})
    other.save("view", make_features(rng))
    shutil.copy(other.folder / "view.safetensors", store.folder / "view.safetensors")
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
    with pytest.raises(GenLangSplatError, match="regions range"):
        open_store(tmp_path).save("view", ViewFeatures(features.regions, features.embeddings[:count]))


def test_embeddings_that_do_not_fit_the_store_are_refused(tmp_path, rng):
    features = make_features(rng)
    store = open_store(tmp_path)
    with pytest.raises(GenLangSplatError, match=f"regions x {DIM}"):
        store.save("view", ViewFeatures(features.regions, features.embeddings[:, :-1]))
    with pytest.raises(GenLangSplatError, match="finite"):
        store.save("view", ViewFeatures(features.regions, features.embeddings * torch.nan))
    assert "view" not in store


def test_a_full_disk_leaves_the_old_features_and_no_litter_and_says_how_to_go_on(tmp_path, rng, monkeypatch):
    store = open_store(tmp_path)
    old = make_features(rng)
    store.save("view", old)

    def fail(path: Path, features: ViewFeatures, origin: list[str]) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("genlangsplat_ns.features.store.write_view_file", fail)
        with pytest.raises(GenLangSplatError, match=r"No space left on device.*to continue"):
            store.save("view", make_features(rng))
    assert_same(store.load("view"), old)
    assert sorted(path.name for path in store.folder.iterdir()) == ["manifest.json", "view.safetensors"]


def test_what_killed_runs_left_is_cleared_before_writing(tmp_path):
    store = open_store(tmp_path)
    left = store.folder / ".view-0123abcd-unfinished.safetensors"
    left.write_bytes(b"half")
    with store.writing():
        assert not left.exists()


def test_only_one_process_writes_at_a_time(tmp_path, caplog):
    """The second process waits and logs it; another thread stands in for it, with the same kind of lock."""
    first, second, order = open_store(tmp_path), open_store(tmp_path), []

    def write_second() -> None:
        with second.writing():
            order.append("second")

    with first.writing():
        thread = Thread(target=write_second)
        thread.start()
        while "waiting" not in caplog.text:
            assert thread.is_alive()
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(folder / name))
    return folder


def unwritable(folder: Path) -> Path:
    """A data folder in which no store can be created, not even by root."""
    folder.mkdir()
    (folder / "language_features").write_text("in the way")
    return folder


def test_features_of_a_read_only_data_folder_go_to_the_cache(tmp_path, rng, cache, caplog):
    root = unwritable(tmp_path / "scene")
    store = open_store(root)
    assert store.folder.is_relative_to(cache / "genlangsplat-ns")
    assert str(store.folder) in caplog.text
    features = make_features(rng)
    store.save("view", features)
    assert_same(open_store(root).load("view"), features)


def test_features_that_lie_beside_read_only_data_are_used(tmp_path, rng, cache, monkeypatch):
    features, more = make_features(rng), make_features(rng)
    open_store(tmp_path).save("view", features)
    monkeypatch.setattr("genlangsplat_ns.features.store.prepare_folder", only_below(cache))
    store = open_store(tmp_path)
    assert "view" in store
    assert_same(store.load("view"), features)
    store.save("other", more)
    assert_same(open_store(tmp_path).load("other"), more)
    assert "other" not in FeatureStore(tmp_path / "language_features" / store.folder.name, store.identity)


def only_below(writable: Path):
    """Creating a folder fails outside `writable`, as on a read-only disk."""

    def prepare(folder: Path, manifest: str) -> None:
        if not folder.is_relative_to(writable):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        folder.mkdir(parents=True, exist_ok=True)

    return prepare


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_or_broken_disk_does_not_send_the_features_elsewhere(tmp_path, cache, monkeypatch, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(GenLangSplatError, match=os.strerror(number)):
        open_store(tmp_path)
    assert not cache.exists()


def test_features_that_the_disk_does_not_give_are_not_called_missing(tmp_path, rng, monkeypatch):
    """safetensors says that such a file does not exist."""
    store = open_store(tmp_path)
    store.save("view", make_features(rng))
    monkeypatch.setattr("genlangsplat_ns.features.view_file.safe_open", Mock(side_effect=FileNotFoundError))
    monkeypatch.setattr(Path, "open", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    with pytest.raises(GenLangSplatError, match=r"cannot be read \(Input/output error\)"):
        store.load("view")
