"""Extraction stores each frame once, on one machine or on several."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.extract import extract_features
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.utils.ray import RaySettings
from pretrain import extract
from pretrain.extract import extract_embeddings, ingest_store
from pretrain.frame_worker import FrameModels, row_levels
from pretrain.scene_files import read_folders
from tests.features.fakes import MeanColorEncoder, TileMasks, make_views, open_store
from tests.pretrain.embedding_fakes import DAMAGES, IDENTITY, contents, damage
from tests.pretrain.frame_fakes import REGIONS, PaintedFrames, models, picture

ROOT = Path(__file__).parents[2]


def encoded(count_in: Path) -> int:
    """Returns the number of frames that the encoders of all processes have seen."""
    return len(count_in.read_text()) if count_in.exists() else 0


def failed(folder: Path) -> dict[str, str]:
    return {key: reason for file in read_folders((folder,)) for key, reason in file.failed.items()}


def stored(folder: Path) -> list[str]:
    return sorted(key for file in read_folders((folder,)) for key in file.frames)


def test_every_region_of_every_frame_is_stored_with_its_scene_and_level(tmp_path: Path) -> None:
    extract_embeddings(PaintedFrames(6), tmp_path, models())
    expected = []
    for number in range(6):
        image, kept = picture(number), []
        masks = TileMasks().generate(image)
        for mask, embedding in zip(masks.masks, MeanColorEncoder().encode_regions(image, masks), strict=True):
            unit = (embedding / torch.linalg.vector_norm(embedding)).half()
            if all(torch.cosine_similarity(unit.float(), other.float(), dim=0) <= 0.9999 for other in kept):
                kept.append(unit)
                expected.append((f"{number:04d}", f"scene{number // 4}", mask.level, unit.numpy().tobytes()))
    assert contents(tmp_path) == sorted(expected)
    assert 350 < len(expected) < 6 * REGIONS
    files = read_folders((tmp_path,))
    assert [file.path.relative_to(tmp_path).as_posix() for file in files] == [
        "painted/scene0.safetensors",
        "painted/scene1.safetensors",
    ]
    assert {(file.source, str(file.identity)) for file in files} == {("painted", str(IDENTITY))}


def test_stored_frames_are_not_worked_on_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "SCENE_FRAMES", 3)
    folder, count = tmp_path / "embeddings", tmp_path / "count"
    extract_embeddings(PaintedFrames(8), folder, models(count_in=count), limit=2)
    assert encoded(count) == 2 and stored(folder) == ["0000", "0001"]
    extract_embeddings(PaintedFrames(8), folder, models(count_in=count))
    assert encoded(count) == 8
    assert [len(file.frames) for file in read_folders((folder,))] == [2, 2, 1, 3]
    before = {file.path: file.path.stat().st_mtime_ns for file in read_folders((folder,))}

    def must_not_load() -> MeanColorEncoder:
        pytest.fail("a model was loaded although nothing was missing")

    extract_embeddings(PaintedFrames(8), folder, replace(models(), load_encoder=must_not_load))
    assert {file.path: file.path.stat().st_mtime_ns for file in read_folders((folder,))} == before
    extract_embeddings(PaintedFrames(8), tmp_path / "once", models())
    assert contents(folder) == contents(tmp_path / "once")


@pytest.mark.parametrize("kind", [*DAMAGES, "missing"])
def test_a_damaged_file_is_named_and_made_anew(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    folder, count = tmp_path / "embeddings", tmp_path / "count"
    extract_embeddings(PaintedFrames(8), folder, models())
    before = contents(folder)
    damage(folder / "painted" / "scene1.safetensors", kind)
    extract_embeddings(PaintedFrames(8), folder, models(count_in=count))
    assert encoded(count) == 4
    assert ("scene1.safetensors" in caplog.text and "extracted anew" in caplog.text) == (kind != "missing")
    assert contents(folder) == before


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_of_another_source_is_left_to_that_source(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    extract_embeddings(PaintedFrames(8), tmp_path, models())
    damage(tmp_path / "painted" / "scene1.safetensors", kind)
    before = (tmp_path / "painted" / "scene1.safetensors").read_bytes()
    extract_embeddings(PaintedFrames(4, name="others"), tmp_path, models())
    assert (tmp_path / "painted" / "scene1.safetensors").read_bytes() == before
    assert "extracted anew" not in caplog.text
    assert (tmp_path / "others" / "scene0.safetensors").exists()
    extract_embeddings(PaintedFrames(8), tmp_path, models())
    assert "scene1.safetensors" in caplog.text and "extracted anew" in caplog.text
    assert len(stored(tmp_path)) == 12


def test_a_damaged_header_of_another_source_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extract_embeddings(PaintedFrames(4), tmp_path, models())
    (tmp_path / "painted" / "scene0.safetensors").write_bytes(b"")
    extract_embeddings(PaintedFrames(4, name="others"), tmp_path, models())
    assert "painted/scene0.safetensors is missing, truncated or damaged" in caplog.text
    assert "Extract its source again" in caplog.text


def test_frames_that_cannot_be_read_are_recorded_and_not_fatal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shown_progress: io.StringIO
) -> None:
    folder, count = tmp_path / "embeddings", tmp_path / "count"
    extract_embeddings(PaintedFrames(5, unreadable=("0001", "0004")), folder, models(count_in=count))
    assert failed(folder) == {"0001": "0001 is no picture.", "0004": "0004 is no picture."}
    assert stored(folder) == ["0000", "0002", "0003"]
    assert "2 failed" in shown_progress.getvalue()
    assert "0001 failed: 0001 is no picture." in caplog.text

    extract_embeddings(PaintedFrames(5), folder, models(count_in=count))
    assert encoded(count) == 3
    extract_embeddings(PaintedFrames(5), folder, models(count_in=count), retry_failed=True)
    assert encoded(count) == 5
    caplog.clear()
    extract_embeddings(PaintedFrames(5), folder, models(count_in=count))
    assert encoded(count) == 5 and "failed" not in caplog.text
    extract_embeddings(PaintedFrames(5), tmp_path / "once", models())
    assert contents(folder) == contents(tmp_path / "once")


@pytest.mark.parametrize("poison", ["nan", "zero"])
def test_a_frame_with_an_unusable_embedding_is_recorded_and_not_stored(tmp_path: Path, poison: str) -> None:
    extract_embeddings(PaintedFrames(3), tmp_path, models(poison=poison))
    assert failed(tmp_path) == {"0001": "1 of 64 embeddings are zero or not finite"}
    assert stored(tmp_path) == ["0000", "0002"]


def test_a_model_that_breaks_over_one_frame_costs_that_frame(tmp_path: Path) -> None:
    class Exhausted(MeanColorEncoder):
        def encode_regions(self, image, masks):
            if self.num_views == 1:
                self.num_views += 1
                raise torch.cuda.OutOfMemoryError("no memory is left")
            return super().encode_regions(image, masks)

    extract_embeddings(PaintedFrames(3), tmp_path, replace(models(), load_encoder=Exhausted))
    assert failed(tmp_path) == {"0001": "OutOfMemoryError: no memory is left"}
    assert len(stored(tmp_path)) == 2


def test_what_cannot_be_extracted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"All 2 frames failed\. .* 0000 is no picture"):
        extract_embeddings(PaintedFrames(2, unreadable=("0000", "0001")), tmp_path / "failed", models())
    with pytest.raises(GenLangSplatError, match="painted has no frame"):
        extract_embeddings(PaintedFrames(0), tmp_path, models())
    with pytest.raises(GenLangSplatError, match="limit=0"):
        extract_embeddings(PaintedFrames(3), tmp_path, models(), limit=0)
    (tmp_path / "file").touch()
    with pytest.raises(GenLangSplatError, match="file cannot be written"):
        extract_embeddings(PaintedFrames(3), tmp_path / "file", models())


def test_another_encoder_than_announced_or_stored_is_refused(tmp_path: Path) -> None:
    other = FrameModels(replace(IDENTITY, encoder_identity="other/2"), TileMasks, MeanColorEncoder)
    with pytest.raises(GenLangSplatError, match=r"colors/1 .* other/2"):
        extract_embeddings(PaintedFrames(2), tmp_path, other)
    extract_embeddings(PaintedFrames(2), tmp_path, models())
    with pytest.raises(GenLangSplatError, match=r"colors/1, .* other/2"):
        extract_embeddings(PaintedFrames(4), tmp_path, other)


def test_a_folder_has_one_writer_that_removes_leftovers(tmp_path: Path) -> None:
    leftover = tmp_path / "painted" / ".scene0-0123abcd-unfinished.safetensors"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half a file")
    with extract._locked(tmp_path), pytest.raises(GenLangSplatError, match="Another process is writing"):
        extract_embeddings(PaintedFrames(2), tmp_path, models())
    assert not leftover.exists()


def test_the_choice_of_masks_and_encoder_becomes_an_identity() -> None:
    found = FrameModels.from_settings(FeatureSettings(encoder="conse", masks="watershed", levels=("part",)), "cpu")
    assert found.identity.encoder_identity.startswith("conse")
    assert found.identity.masks == found.load_masks().name == "watershed"
    assert found.identity.levels == ("part",)


SLOW_EXTRACTION = """
import sys
from pathlib import Path
from pretrain.extract import extract_embeddings
from tests.pretrain.frame_fakes import PaintedFrames, models
folder, count = map(Path, sys.argv[1:])
extract_embeddings(PaintedFrames(12), folder, models(0.1, count))
"""


@pytest.mark.slow
def test_a_killed_extraction_goes_on_where_it_stopped(tmp_path: Path) -> None:
    killed, count = tmp_path / "killed", tmp_path / "count"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_EXTRACTION, str(killed), str(count)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while encoded(count) < 6:
        assert process.poll() is None, "the extraction ended before it was killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived, worked_on = len(stored(killed)), encoded(count)
    assert survived in (4, 8)
    extract_embeddings(PaintedFrames(12), killed, models(count_in=count))
    assert encoded(count) - worked_on == 12 - survived
    extract_embeddings(PaintedFrames(12), tmp_path / "undisturbed", models())
    assert contents(killed) == contents(tmp_path / "undisturbed")


# Feature stores


def test_a_feature_store_is_copied_once_and_its_damaged_views_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene, folder = tmp_path / "kitchen", tmp_path / "embeddings"
    scene.mkdir()
    store = open_store(scene)
    extract_features(make_views(3), store, TileMasks, MeanColorEncoder)
    broken = store.keys()[1]
    content = (store.folder / f"{broken}.safetensors").read_bytes()
    (store.folder / f"{broken}.safetensors").write_bytes(content[:-9])
    ingest_store(store.folder, folder)
    (file,) = read_folders((folder,))
    assert (file.source, file.scene, file.identity) == ("kitchen", "kitchen", store.identity)
    assert list(file.frames) == [key for key in store.keys() if key != broken]  # noqa: SIM118
    assert list(file.failed) == [broken] and f"{broken} failed" in caplog.text
    features = store.load(store.keys()[0])
    rows = row_levels(features.regions, len(features.embeddings))
    assert file.levels()[: file.frames[store.keys()[0]]].unique().tolist() == rows[rows >= 0].unique().tolist()

    (store.folder / f"{broken}.safetensors").write_bytes(content)
    ingest_store(store.folder, folder, retry_failed=True)
    assert len(stored(folder)) == 3 and len(read_folders((folder,))) == 2
    with pytest.raises(GenLangSplatError, match="is not a feature store"):
        ingest_store(scene, folder)


def test_a_region_has_the_finest_level_on_which_it_is_seen() -> None:
    regions = torch.tensor([[[-1, 0]], [[1, 1]], [[1, 2]]], dtype=torch.int32)
    assert row_levels(regions, 4).tolist() == [0, 1, 2, -1]


# Ray


def test_without_ray_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(GenLangSplatError, match=r'pip install "genlangsplat-ns\[ray\]"'):
        extract_embeddings(PaintedFrames(2), tmp_path, models(), engine="ray")


TWO_WORKERS = RaySettings(num_workers=2, num_cpus=0.5, items_per_task=3)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ray_makes_the_same_files_and_goes_on_too(tmp_path: Path) -> None:
    spread, count = tmp_path / "spread", tmp_path / "count"
    source = PaintedFrames(20, unreadable=("0007",))
    extract_embeddings(source, spread, models(count_in=count), limit=4)
    extract_embeddings(source, spread, models(count_in=count), engine="ray", ray_settings=TWO_WORKERS)
    assert encoded(count) == 19
    extract_embeddings(source, tmp_path / "local", models())
    files = {file.path.name: (file.sha256, file.failed) for file in read_folders((spread,))}
    assert files == {file.path.name: (file.sha256, file.failed) for file in read_folders((tmp_path / "local",))}
    assert failed(spread) == {"0007": "0007 is no picture."}


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_loses_no_frame(tmp_path: Path) -> None:
    """One frame kills its worker once, another one always."""
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    source = PaintedFrames(20, deadly={"0004": 1, "0016": 1000}, deaths=deaths)
    extract_embeddings(source, tmp_path / "spread", models(), engine="ray", ray_settings=TWO_WORKERS)
    assert len(list(deaths.glob("0004-*"))) == 1
    assert len(list(deaths.glob("0016-*"))) > 2
    assert failed(tmp_path / "spread") == {"0016": "its worker died in every attempt"}
    extract_embeddings(PaintedFrames(20, unreadable=("0016",)), tmp_path / "local", models())
    assert contents(tmp_path / "spread") == contents(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_model_that_cannot_be_loaded_on_the_cluster_is_named(tmp_path: Path) -> None:
    other = FrameModels(replace(IDENTITY, encoder_identity="other/2"), TileMasks, MeanColorEncoder)
    with pytest.raises(GenLangSplatError, match=r"colors/1 .* other/2"):
        extract_embeddings(PaintedFrames(4), tmp_path, other, engine="ray", ray_settings=TWO_WORKERS)
