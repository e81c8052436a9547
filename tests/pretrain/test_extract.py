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
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.utils.ray import RaySettings
from pretrain.extract import extract_shards
from pretrain.frame_worker import FrameModels
from pretrain.shards import ShardFolder
from tests.features.fakes import MeanColorEncoder, TileMasks
from tests.pretrain.frame_fakes import REGIONS, PaintedFrames, models, picture
from tests.pretrain.shard_fakes import IDENTITY, contents

ROOT = Path(__file__).parents[2]


def encoded(count_in: Path) -> int:
    """Returns the number of frames that the encoders of all processes have seen."""
    return len(count_in.read_text()) if count_in.exists() else 0


def test_every_region_of_every_frame_is_stored_with_its_scene_and_level(tmp_path: Path) -> None:
    folder = extract_shards(PaintedFrames(6), tmp_path, models())
    assert folder.index.identity == IDENTITY
    assert [scene.name for scene in folder.index.scenes] == ["scene0", "scene1"]
    expected = []
    for number in range(6):
        image, kept = picture(number), []
        masks = TileMasks().generate(image)
        for mask, embedding in zip(masks.masks, MeanColorEncoder().encode_regions(image, masks), strict=True):
            unit = (embedding / torch.linalg.vector_norm(embedding)).half()
            if all(torch.cosine_similarity(unit.float(), other.float(), dim=0) <= 0.9999 for other in kept):
                kept.append(unit)
                expected.append((f"painted/{number:04d}", f"scene{number // 4}", mask.level, unit.numpy().tobytes()))
    assert contents(tmp_path) == sorted(expected)
    assert folder.index.frames.keys() == {f"painted/{number:04d}" for number in range(6)}
    assert 350 < folder.index.rows == 6 * REGIONS - folder.index.duplicates


def test_stored_frames_are_not_worked_on_again(tmp_path: Path) -> None:
    folder, count = tmp_path / "shards", tmp_path / "count"
    extract_shards(PaintedFrames(8), folder, models(count_in=count), limit=3)
    assert encoded(count) == 3
    assert list(ShardFolder.read(folder).index.frames) == ["painted/0000", "painted/0001", "painted/0002"]
    extract_shards(PaintedFrames(8), folder, models(count_in=count))
    assert encoded(count) == 8

    def must_not_load() -> MeanColorEncoder:
        pytest.fail("a model was loaded although nothing was missing")

    extract_shards(PaintedFrames(8), folder, replace(models(), load_encoder=must_not_load))


def test_frames_that_cannot_be_read_are_recorded_and_not_fatal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shown_progress: io.StringIO
) -> None:
    folder, count = tmp_path / "shards", tmp_path / "count"
    found = extract_shards(PaintedFrames(5, unreadable=("0001", "0004")), folder, models(count_in=count))
    assert found.index.failed == {"painted/0001": "0001 is no picture.", "painted/0004": "0004 is no picture."}
    assert list(found.index.frames) == ["painted/0000", "painted/0002", "painted/0003"]
    assert "2 failed" in shown_progress.getvalue()
    assert "0001 failed: 0001 is no picture." in caplog.text

    mended = PaintedFrames(5)
    assert len(extract_shards(mended, folder, models(count_in=count)).index.failed) == 2
    assert encoded(count) == 3
    assert extract_shards(mended, folder, models(count_in=count), retry_failed=True).index.failed == {}
    extract_shards(mended, tmp_path / "mended", models())
    assert contents(folder) == contents(tmp_path / "mended")


@pytest.mark.parametrize("poison", ["nan", "zero"])
def test_a_frame_with_an_unusable_embedding_is_recorded_and_not_stored(tmp_path: Path, poison: str) -> None:
    index = extract_shards(PaintedFrames(3), tmp_path, models(poison=poison)).index
    assert index.failed == {"painted/0001": "1 of 64 embeddings are zero or not finite"}
    assert {frame for frame, *_ in contents(tmp_path)} == {"painted/0000", "painted/0002"}


def test_a_model_that_breaks_over_one_frame_costs_that_frame(tmp_path: Path) -> None:
    class Exhausted(MeanColorEncoder):
        def encode_regions(self, image, masks):
            if self.num_views == 1:
                self.num_views += 1
                raise torch.cuda.OutOfMemoryError("no memory is left")
            return super().encode_regions(image, masks)

    index = extract_shards(PaintedFrames(3), tmp_path, replace(models(), load_encoder=Exhausted)).index
    assert index.failed == {"painted/0001": "OutOfMemoryError: no memory is left"}
    assert len(index.frames) == 2


def test_when_every_frame_fails_the_reason_is_an_error(tmp_path: Path) -> None:
    source = PaintedFrames(2, unreadable=("0000", "0001"))
    with pytest.raises(GenLangSplatError, match=r"All 2 frames failed\. .* 0000 is no picture"):
        extract_shards(source, tmp_path, models())


def test_a_source_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="painted has no frame"):
        extract_shards(PaintedFrames(0), tmp_path, models())
    with pytest.raises(GenLangSplatError, match="limit=0"):
        extract_shards(PaintedFrames(3), tmp_path, models(), limit=0)


def test_an_encoder_that_was_not_announced_is_refused(tmp_path: Path) -> None:
    other = FrameModels(replace(IDENTITY, encoder="other/2"), TileMasks, MeanColorEncoder)
    with pytest.raises(GenLangSplatError, match=r"colors/1 .* other/2"):
        extract_shards(PaintedFrames(2), tmp_path, other)
    assert ShardFolder.read(tmp_path).index.rows == 0


def test_another_encoder_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    extract_shards(PaintedFrames(2), tmp_path, models())
    other = replace(models(), identity=replace(IDENTITY, encoder="other/2"))
    with pytest.raises(GenLangSplatError, match=r"colors/1, .* other/2"):
        extract_shards(PaintedFrames(4), tmp_path, other)


def test_the_choice_of_masks_and_encoder_becomes_an_identity() -> None:
    found = FrameModels.from_settings(FeatureSettings(encoder="conse", masks="watershed", levels=("part",)), "cpu")
    assert found.identity.encoder.startswith("conse")
    assert found.identity.masks == found.load_masks().name == "watershed"
    assert found.identity.levels == ("part",)


SLOW_EXTRACTION = """
import sys
from pathlib import Path
from pretrain.extract import extract_shards
from tests.pretrain.frame_fakes import PaintedFrames, models
folder, count = map(Path, sys.argv[1:])
extract_shards(PaintedFrames(12), folder, models(0.1, count), shard_rows=100, flush_seconds=0.25)
"""


def test_a_killed_extraction_goes_on_where_it_stopped(tmp_path: Path) -> None:
    killed, count = tmp_path / "killed", tmp_path / "count"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_EXTRACTION, str(killed), str(count)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while encoded(count) < 6:
        assert process.poll() is None, "the extraction ended before it was killed"
        assert time.monotonic() < deadline, "the extraction does not go on"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = len(ShardFolder.read(killed).index.frames)
    assert 1 <= survived < 12
    worked_on = encoded(count)
    # The frames since the last flush, and the current one.
    assert worked_on - survived <= 5

    extract_shards(PaintedFrames(12), killed, models(count_in=count))
    assert encoded(count) - worked_on == 12 - survived
    extract_shards(PaintedFrames(12), tmp_path / "undisturbed", models())
    assert contents(killed) == contents(tmp_path / "undisturbed")


def test_without_ray_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(GenLangSplatError, match=r'pip install "genlangsplat-ns\[ray\]"'):
        extract_shards(PaintedFrames(2), tmp_path, models(), engine="ray")


TWO_WORKERS = RaySettings(num_workers=2, num_cpus=0.5, items_per_task=3)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ray_makes_the_same_shards_and_goes_on_too(tmp_path: Path) -> None:
    spread, count = tmp_path / "spread", tmp_path / "count"
    source = PaintedFrames(20, unreadable=("0007",))
    extract_shards(source, spread, models(count_in=count), limit=5)
    extract_shards(source, spread, models(count_in=count), engine="ray", ray_settings=TWO_WORKERS)
    assert encoded(count) == 19
    local = extract_shards(source, tmp_path / "local", models())
    assert contents(spread) == contents(tmp_path / "local")
    assert ShardFolder.read(spread).index.failed == local.index.failed == {"painted/0007": "0007 is no picture."}


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_loses_no_frame(tmp_path: Path) -> None:
    """One frame kills its worker once, another one always."""
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    source = PaintedFrames(20, deadly={"0004": 1, "0016": 1000}, deaths=deaths)
    folder = extract_shards(source, tmp_path / "spread", models(), engine="ray", ray_settings=TWO_WORKERS)
    assert len(list(deaths.glob("0004-*"))) == 1
    assert len(list(deaths.glob("0016-*"))) > 2
    assert folder.index.failed == {"painted/0016": "its worker died in every attempt"}
    extract_shards(PaintedFrames(20, unreadable=("0016",)), tmp_path / "local", models())
    assert contents(tmp_path / "spread") == contents(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_model_that_cannot_be_loaded_on_the_cluster_is_named(tmp_path: Path) -> None:
    other = FrameModels(replace(IDENTITY, encoder="other/2"), TileMasks, MeanColorEncoder)
    with pytest.raises(GenLangSplatError, match=r"colors/1 .* other/2"):
        extract_shards(PaintedFrames(4), tmp_path, other, engine="ray", ray_settings=TWO_WORKERS)
