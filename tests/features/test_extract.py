"""Extraction stores each view once, even after interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.costs import ExtractionCosts
from genlangsplat_ns.features.extract import extract_features, view_features
from genlangsplat_ns.features.regions import RegionMask, ViewMasks
from genlangsplat_ns.features.watershed import WatershedMaskGenerator

sys.path.insert(0, str(Path(__file__).parent))
from fakes import DIM, MeanColorEncoder, TileMasks, make_views, open_store


def must_not_load() -> MeanColorEncoder:
    pytest.fail("the encoder was loaded although nothing was missing")


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a store except its lock and what it cost, which differs from time to time."""
    ignored = {".lock", "costs.json"}
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in ignored}


def stored(folder: Path) -> int:
    return len(list(folder.glob("[!.]*.safetensors")))


def test_every_view_is_stored_with_the_embeddings_of_its_regions(tmp_path):
    views, store, encoder = make_views(3), open_store(tmp_path), MeanColorEncoder()
    keys = extract_features(views, store, TileMasks, lambda: encoder)
    assert [key.rsplit("-", 1)[0] for key in keys] == ["0000", "0001", "0002"]
    for key, (_, image, _) in zip(keys, views, strict=True):
        features = store.load(key)
        assert features.regions.shape == (3, 12, 16)
        assert len(features.embeddings) == 48 + 12 + 4
        row = int(features.regions[1, 5, 6])
        tile = image[4:8, 4:8].float().reshape(-1, 3) / 255
        expected = torch.nn.functional.normalize(torch.cat([tile.mean(0) + 0.01, (tile**2).mean(0)]), dim=0)
        torch.testing.assert_close(features.embeddings[row], expected, atol=1e-3, rtol=0)


def test_stored_views_are_not_encoded_again(tmp_path):
    views, store = make_views(4), open_store(tmp_path)
    first, second = MeanColorEncoder(), MeanColorEncoder()
    extract_features(views[:2], store, TileMasks, lambda: first)
    keys = extract_features(views, store, TileMasks, lambda: second)
    assert (first.num_views, second.num_views) == (2, 2)
    assert extract_features(views, open_store(tmp_path), TileMasks, must_not_load) == keys


def test_the_same_view_twice_is_encoded_once(tmp_path):
    views, encoder = make_views(1) * 2, MeanColorEncoder()
    keys = extract_features(views, open_store(tmp_path), TileMasks, lambda: encoder)
    assert keys[0] == keys[1]
    assert encoder.num_views == 1


def test_a_damaged_view_alone_is_made_anew(tmp_path):
    views, store, encoder = make_views(3), open_store(tmp_path), MeanColorEncoder()
    keys = extract_features(views, store, TileMasks, MeanColorEncoder)
    before = contents(store.folder)
    (store.folder / f"{keys[1]}.safetensors").write_bytes(b"half a file")
    extract_features(views, store, TileMasks, lambda: encoder)
    assert encoder.num_views == 1
    assert contents(store.folder) == before


def test_the_store_knows_what_each_view_cost(tmp_path):
    store = open_store(tmp_path)
    keys = extract_features(make_views(2), store, TileMasks, lambda: MeanColorEncoder(0.05))
    first = ExtractionCosts(store.folder).sum(keys)
    assert first.embeddings.wall_seconds >= 0.1 > first.masks.wall_seconds
    assert first.regions == sum(len(store.load(key).embeddings) for key in keys)
    # A second extraction adds its views and keeps the others.
    more = extract_features(make_views(3), store, TileMasks, MeanColorEncoder)
    costs = ExtractionCosts(store.folder)
    assert all(key in costs for key in more) and costs.sum(keys) == first


def test_a_view_without_regions_is_stored_empty_and_named(tmp_path, caplog):
    views = [("black.png", torch.zeros(8, 8, 3, dtype=torch.uint8), None)]
    store, encoder = open_store(tmp_path), MeanColorEncoder()
    (key,) = extract_features(views, store, TileMasks, lambda: encoder)
    features = store.load(key)
    assert features.embeddings.shape == (0, DIM)
    assert bool((features.regions == -1).all())
    assert "black.png" in caplog.text
    assert encoder.num_views == 0


def test_no_views_are_no_work(tmp_path):
    assert extract_features([], open_store(tmp_path), TileMasks, must_not_load) == []


def test_views_may_be_made_on_access(tmp_path):
    class LazyViews(Sequence):
        accessed = 0

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index):
            self.accessed += 1
            return make_views(3)[index]

    views = LazyViews()
    extract_features(views, open_store(tmp_path), TileMasks, MeanColorEncoder)
    # Twice per view, plus accesses by the runtime type checker.
    assert views.accessed <= 2 * 3 + 4


def test_models_that_cannot_be_loaded_leave_no_folder_behind(tmp_path):
    def fail() -> MeanColorEncoder:
        raise GenLangSplatError("no weights")

    with pytest.raises(GenLangSplatError, match="no weights"):
        extract_features(make_views(1), open_store(tmp_path), TileMasks, fail)
    assert list(tmp_path.iterdir()) == []
    keys = extract_features(make_views(1), open_store(tmp_path), TileMasks, MeanColorEncoder)
    with pytest.raises(GenLangSplatError, match="no weights"):
        extract_features(make_views(2), open_store(tmp_path), TileMasks, fail)
    assert keys[0] in open_store(tmp_path)


@pytest.mark.parametrize(("attribute", "value"), [("identity", "colors/2"), ("embedding_dim", DIM + 1)])
def test_an_encoder_the_store_is_not_for_is_refused(tmp_path, attribute, value):
    encoder, store = MeanColorEncoder(), open_store(tmp_path)
    setattr(encoder, attribute, value)
    with pytest.raises(GenLangSplatError, match=str(value)):
        extract_features(make_views(1), store, TileMasks, lambda: encoder)
    assert stored(store.folder) == 0


SLOW_EXTRACTION = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fakes import MeanColorEncoder, TileMasks, make_views, open_store
from genlangsplat_ns.features.extract import extract_features
from genlangsplat_ns.utils.console import show
show()
extract_features(make_views(12), open_store(Path(sys.argv[2])), TileMasks, lambda: MeanColorEncoder(0.1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_killed_extraction_goes_on_where_it_stopped(tmp_path, seed):
    """After a kill at a random time and a resume, the store equals that of an uninterrupted run."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    extract_features(make_views(12), open_store(undisturbed), TileMasks, MeanColorEncoder)

    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_EXTRACTION, str(Path(__file__).parent), str(killed)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    folder = open_store(killed).folder
    while not stored(folder):
        assert process.poll() is None, "the extraction ended before anything was stored"
        time.sleep(0.005)
    time.sleep(np.random.default_rng(seed).uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = stored(folder)
    assert survived < 12, "the extraction was not interrupted"

    encoder = MeanColorEncoder()
    extract_features(make_views(12), open_store(killed), TileMasks, lambda: encoder)
    assert encoder.num_views == 12 - survived
    assert contents(folder) == contents(open_store(undisturbed).folder)


@pytest.mark.slow
def test_two_processes_on_one_store_share_the_work_of_the_first(tmp_path):
    """The second process waits, and then finds all views stored."""
    command = [sys.executable, "-c", SLOW_EXTRACTION, str(Path(__file__).parent), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("Extracted 12 views" in output for output in outputs) == [False, True]
    assert stored(open_store(tmp_path).folder) == 12


def test_levels_that_were_not_asked_for_stay_empty(tmp_path):
    store = open_store(tmp_path, levels=("part",))
    assert store.folder != open_store(tmp_path).folder
    (key,) = extract_features(make_views(1), store, TileMasks, MeanColorEncoder)
    features = store.load(key)
    assert [bool((level >= 0).any()) for level in features.regions] == [False, True, False]
    assert len(features.embeddings) == 12


def test_overlapping_masks_are_embedded_whole_and_hidden_ones_not_at_all():
    image = make_views(1)[0][1]
    full = np.ones((12, 16), dtype=bool)
    masks = [RegionMask.from_pixels(0, pixels) for pixels in (full[:4], full, full[:, :8])]

    class Overlapping(TileMasks):
        def generate(self, image: torch.Tensor) -> ViewMasks:
            return ViewMasks(12, 16, 3, masks)

    features = view_features(image, Overlapping(), MeanColorEncoder())
    alone = MeanColorEncoder().encode_regions(image, ViewMasks(12, 16, 3, masks[1:]))
    torch.testing.assert_close(features.embeddings, alone)
    assert features.regions[0, :, :8].unique().tolist() == [1] and features.regions[0, :, 8:].unique().tolist() == [0]


class SpyEncoder(MeanColorEncoder):
    """Keeps the images that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[torch.Tensor] = []

    def encode_regions(self, image: torch.Tensor, masks: ViewMasks) -> torch.Tensor:
        self.images.append(image)
        return super().encode_regions(image, masks)


@pytest.mark.parametrize("generator", [TileMasks, WatershedMaskGenerator])
def test_masked_pixels_have_no_region_and_are_black_for_the_encoder(tmp_path, generator):
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.integers(20, 256, (40, 60, 3), dtype=np.uint8))
    kept = torch.ones(40, 60, dtype=torch.bool)
    kept[25:, 10:50] = False
    encoder, store = SpyEncoder(), open_store(tmp_path)
    (key,) = extract_features([("0001.jpg", image, kept)], store, generator, lambda: encoder)
    features = store.load(key)
    assert bool((features.regions[:, ~kept] == -1).all())
    assert float((features.regions[:, kept] >= 0).float().mean()) > 0.9
    (shown,) = encoder.images
    assert not bool(shown[~kept].any()) and torch.equal(shown[kept], image[kept])


@pytest.mark.parametrize("generator", [TileMasks, WatershedMaskGenerator])
def test_what_is_below_a_mask_has_no_influence(generator):
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.integers(20, 256, (40, 60, 3), dtype=np.uint8))
    kept = torch.ones(40, 60, dtype=torch.bool)
    kept[5:30, 10:50] = False
    other = image.clone()
    other[~kept] = 255 - other[~kept]
    features = [view_features(pixels, generator(), MeanColorEncoder(), kept=kept) for pixels in (image, other)]
    assert torch.equal(features[0].regions, features[1].regions)
    assert torch.equal(features[0].embeddings, features[1].embeddings)


@pytest.mark.parametrize("generator", [TileMasks, WatershedMaskGenerator])
def test_a_mask_that_keeps_all_pixels_changes_nothing(generator):
    image, all_kept = make_views(1)[0][1], torch.ones(12, 16, dtype=torch.bool)
    masked, plain = (view_features(image, generator(), MeanColorEncoder(), kept=kept) for kept in (all_kept, None))
    assert torch.equal(masked.regions, plain.regions) and torch.equal(masked.embeddings, plain.embeddings)


def test_a_view_that_is_masked_completely_has_no_region(tmp_path, caplog):
    views = [("0001.jpg", make_views(1)[0][1], torch.zeros(12, 16, dtype=torch.bool))]
    store = open_store(tmp_path)
    (key,) = extract_features(views, store, WatershedMaskGenerator, MeanColorEncoder)
    assert bool((store.load(key).regions == -1).all())
    assert "0001.jpg has no region" in caplog.text


def test_masks_that_leave_nothing_are_refused_before_models_are_loaded(tmp_path):
    """Inverted masks hide all photographs, as if there were nothing to learn."""
    views = [(name, image, torch.zeros(image.shape[:2], dtype=torch.bool)) for name, image, _ in make_views(3)]
    with pytest.raises(GenLangSplatError, match=r"all 3 views are masked.*Invert"):
        extract_features(views, open_store(tmp_path), must_not_load, must_not_load)
    kept = torch.ones(views[1][1].shape[:2], dtype=torch.bool)
    mixed = [views[0], (views[1][0], views[1][1], kept), views[2]]
    assert len(extract_features(mixed, open_store(tmp_path), WatershedMaskGenerator, MeanColorEncoder)) == 3
