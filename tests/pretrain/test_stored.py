"""A feature store as a source: each row once, with its level; damaged views are skipped and recorded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity, ViewFeatures
from genlangsplat_ns.levels import LEVELS
from pretrain.stored import StoredEmbeddings, row_levels

DIM = 8
IDENTITY = StoreIdentity("fake", "fake/1", DIM, "tiles", {"size": 4, "share": 0.25, "kind": "square"}, LEVELS)


def regions_of(levels: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Maps in which each row has a pixel on its own level only."""
    maps = np.full((len(LEVELS), 8, 8), -1, dtype=np.int32)
    places = rng.permutation(64)
    for row, level in enumerate(levels):
        maps[level].flat[places[row]] = row
    return torch.from_numpy(maps)


def save_view(store: FeatureStore, key: str, levels: list[int], seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    embeddings = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((len(levels), DIM))), dim=-1)
    store.save(key, ViewFeatures(regions_of(np.array(levels, dtype=int), rng), embeddings.float()))
    return embeddings.half()


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "kitchen").mkdir()
    return FeatureStore.open(tmp_path / "kitchen", IDENTITY)


def test_every_view_gives_its_rows_and_their_levels(store: FeatureStore) -> None:
    first, second = save_view(store, "b", [0, 0, 1, 2]), save_view(store, "a", [2, 1, 0], seed=1)
    views = list(source := StoredEmbeddings(store.folder))
    assert [view.key for view in views] == ["a", "b"] == source.keys
    assert [view.levels.tolist() for view in views] == [[2, 1, 0], [0, 0, 1, 2]]
    assert torch.equal(views[0].embeddings, second) and torch.equal(views[1].embeddings, first)
    assert source.damaged == {}


def test_a_source_says_whose_embeddings_it_holds(store: FeatureStore) -> None:
    source = StoredEmbeddings(store.folder)
    identity = source.identity
    assert (identity.encoder, identity.encoder_identity, identity.embedding_dim) == ("fake", "fake/1", DIM)
    assert (identity.masks, source.scene, source.name) == ("tiles", "kitchen", "kitchen")


@settings(max_examples=50, deadline=None)
@given(levels=st.lists(st.integers(0, 2), max_size=20), seed=st.integers(0, 99))
def test_a_row_has_the_level_on_whose_map_it_shows(levels: list[int], seed: int) -> None:
    regions = regions_of(np.array(levels, dtype=int), np.random.default_rng(seed))
    assert row_levels(regions, len(levels)).tolist() == levels


def test_a_row_on_several_maps_has_the_finest_and_one_on_none_is_left_out(store: FeatureStore) -> None:
    regions = torch.full((3, 2, 2), -1, dtype=torch.int32)
    regions[1, 0, 0] = regions[2, 1, 1] = 2
    embeddings = torch.eye(3, DIM)
    store.save("a", ViewFeatures(regions, embeddings))
    view = StoredEmbeddings(store.folder).view("a")
    assert view.levels.tolist() == [1]
    assert torch.equal(view.embeddings, embeddings[2:].half())


def test_a_view_without_regions_gives_no_rows(store: FeatureStore) -> None:
    save_view(store, "a", [])
    view = StoredEmbeddings(store.folder).view("a")
    assert view.embeddings.shape == (0, DIM) and view.levels.shape == (0,)


def test_damaged_views_are_left_out_and_noted(store: FeatureStore) -> None:
    for key in "abcd":
        save_view(store, key, [0, 1])
    cut, foreign = store.folder / "b.safetensors", store.folder / "d.safetensors"
    cut.write_bytes(cut.read_bytes()[:-5])
    foreign.write_bytes((store.folder / "a.safetensors").read_bytes())
    source = StoredEmbeddings(store.folder)
    assert [view.key for view in source] == ["a", "c"]
    assert list(source.damaged) == ["b", "d"]
    assert "truncated" in source.damaged["b"] and "another view" in source.damaged["d"]
    assert [view.key for view in source] == ["a", "c"] and len(source.damaged) == 2


def test_unfinished_files_are_no_views(store: FeatureStore) -> None:
    save_view(store, "a", [0])
    (store.folder / ".b-12345678.safetensors").touch()
    assert StoredEmbeddings(store.folder).keys == ["a"]


def test_a_source_travels_to_other_processes(store: FeatureStore) -> None:
    embeddings = save_view(store, "a", [0, 1])
    source = pickle.loads(pickle.dumps(StoredEmbeddings(store.folder)))
    assert torch.equal(source.view("a").embeddings, embeddings)


# Not a store


def test_a_folder_that_is_no_store_is_refused_and_stores_below_are_named(tmp_path: Path, store: FeatureStore) -> None:
    with pytest.raises(GenLangSplatError, match=f"no manifest.json. Found {store.folder} below it"):
        StoredEmbeddings(tmp_path / "kitchen")
    with pytest.raises(GenLangSplatError, match=r"no manifest.json. Extract features first"):
        StoredEmbeddings(tmp_path / "absent")


def test_a_store_without_views_is_refused(store: FeatureStore) -> None:
    with pytest.raises(GenLangSplatError, match="contains no views"):
        list(StoredEmbeddings(store.folder))


@pytest.mark.parametrize("manifest", ["{", "[]", "{}", '{"format_version": 2, "levels": [], "color": 1}'])
def test_a_damaged_manifest_is_refused(store: FeatureStore, manifest: str) -> None:
    (store.folder / "manifest.json").write_text(manifest)
    with pytest.raises(GenLangSplatError, match=r"manifest.json is damaged"):
        StoredEmbeddings(store.folder)


def test_another_version_is_refused(store: FeatureStore) -> None:
    path = store.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 1}))
    with pytest.raises(GenLangSplatError, match="of version 1, expected version 2"):
        StoredEmbeddings(store.folder)
