"""The commands for shards and autoencoders, and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import extractor
from genlangsplat_ns.features.extract import extract_features
from genlangsplat_ns.language.named_autoencoders import load_autoencoder
from pretrain.artifact_commands import Evaluate, Export, Inspect
from pretrain.settings import TrainingSettings
from pretrain.shard_commands import Check, Cross, Extract, Split, Sweep, Train, ingest_store
from pretrain.shards import ShardFolder
from tests.features.fakes import DIM, MeanColorEncoder, TileMasks, make_views, open_store
from tests.pretrain.shard_fakes import IDENTITY, write_frames

QUICK = TrainingSettings(steps=40, batch_size=16, learning_rate=1e-3, eval_every=20, checkpoint_every=20)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Four scenes of three frames."""
    write_frames(tmp_path / "shards", 12)
    return tmp_path / "shards"


def test_training_writes_an_artifact_that_says_what_it_is(shards: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "small.safetensors"
    Train((shards,), output, held_out=("scene1",), latent_dim=3, training=QUICK)()
    identity = load_autoencoder(output, encoder_identity=MeanColorEncoder.identity).identity
    assert (identity.embedding_dim, identity.latent_dim, identity.architecture) == (DIM, 3, "residual")
    assert "of 3 scenes" in identity.training_data
    assert identity.held_out_cosine == identity.figures["held out: cosine"]
    assert 0 < identity.figures["held out: latent usage"] <= 1
    Inspect(str(output))()
    Evaluate(str(output), (shards,))()
    said = capsys.readouterr().out
    assert MeanColorEncoder.identity in said and "subpart" in said and "whole" in said


def test_a_trained_autoencoder_is_exported_under_its_name(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "genlangsplat_ns.language.named_autoencoders.platformdirs.user_cache_dir", lambda name: str(tmp_path / name)
    )
    Train((shards,), tmp_path / "small.safetensors", latent_dim=3, training=QUICK)()
    Export(str(tmp_path / "small.safetensors"))()
    assert load_autoencoder("small").identity.latent_dim == 3


def test_a_damaged_shard_is_told_before_training_and_can_be_taken_out(shards: Path, tmp_path: Path, capsys) -> None:
    Check(shards)()
    assert "are intact" in capsys.readouterr().out
    damaged = sorted(shards.glob("shard-*.safetensors"))[0]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    for command in (Check(shards), Train((shards,), tmp_path / "small.safetensors", training=QUICK)):
        with pytest.raises(GenLangSplatError, match=r"checksum.*pretrain check"):
            command()
    Check(shards, quarantine=True)()
    assert "Removed" in capsys.readouterr().out


def test_texts_are_embedded_by_the_encoder_of_the_shards(shards: Path, tmp_path: Path) -> None:
    Train((shards,), tmp_path / "small.safetensors", latent_dim=3, training=QUICK)()
    with pytest.raises(GenLangSplatError, match=r"shards contain embeddings of colors/1.*conse"):
        Evaluate(str(tmp_path / "small.safetensors"), (shards,), texts=("a fox",), encoder="conse")()


def test_without_names_every_tenth_scene_is_held_out(tmp_path: Path) -> None:
    write_frames(tmp_path, 36)
    split = Split.from_folders([tmp_path], ())
    assert len(split.held_out) == 2 and len(split.trained) == 10
    assert split.trained.isdisjoint(split.held_out)


def test_scenes_that_leave_nothing_to_train_or_measure_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"scene9.*scene0, scene1"):
        Split.from_folders([shards], ("scene9",))
    with pytest.raises(GenLangSplatError, match="none is left"):
        Split.from_folders([shards], ("scene0", "scene1", "scene2", "scene3"))
    write_frames(tmp_path / "one", 2)
    with pytest.raises(GenLangSplatError, match="at least two"):
        Split.from_folders([tmp_path / "one"], ())


def test_a_sweep_measures_every_width_on_the_same_rows_and_draws_them(shards: Path, tmp_path: Path) -> None:
    Sweep((shards,), tmp_path / "out", ("scene2",), latent_dims=(2, 4), training=QUICK)()
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert list(rows) == ["2", "4"]
    assert rows["2"]["constant"] == rows["4"]["constant"]
    assert rows["4"]["PCA cosine"] > rows["2"]["PCA cosine"]
    assert Image.open(tmp_path / "out" / "sweep.png").size[0] > 100


def test_a_table_across_domains_has_every_pair_of_them(shards: Path, tmp_path: Path, capsys) -> None:
    write_frames(tmp_path / "others", 8)
    Cross((shards, tmp_path / "others"), tmp_path / "cross.json", latent_dim=3, training=QUICK)()
    figures = json.loads((tmp_path / "cross.json").read_text())
    assert {name: list(row) for name, row in figures.items()} == {
        "shards": ["shards", "others"],
        "others": ["shards", "others"],
    }
    assert f"{figures['shards']['others']['cosine']:.3f}" in capsys.readouterr().out
    with pytest.raises(GenLangSplatError, match="different names"):
        Cross((shards, shards), tmp_path / "again.json", training=QUICK)()


def test_a_feature_store_is_taken_over_as_it_is(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    keys = extract_features(make_views(3), store, TileMasks, MeanColorEncoder)
    ingest_store(store.folder, tmp_path / "shards")
    index = ShardFolder.read(tmp_path / "shards").index
    assert index.identity == IDENTITY
    assert index.rows == sum(len(store.load(key).embeddings) for key in keys)


def test_photographs_become_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretrain.frame_worker._load_masks", lambda *asked: TileMasks())
    monkeypatch.setattr("pretrain.frame_worker._load_encoder", lambda *asked: MeanColorEncoder())
    monkeypatch.setattr(extractor, "encoder_identity", lambda *asked: MeanColorEncoder.identity)
    monkeypatch.setattr(extractor, "encoder_embedding_dim", lambda *asked: DIM)
    for scene in ("kitchen", "garden"):
        (tmp_path / "photos" / scene).mkdir(parents=True)
        pixels = np.random.default_rng(len(scene)).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / scene / "one.png")
    Extract(shards=tmp_path / "shards", images=tmp_path / "photos", encoder="conse", masks="watershed")()
    scenes = {scene.name for scene in ShardFolder.read(tmp_path / "shards").index.scenes}
    assert scenes == {"kitchen", "garden"}


@pytest.mark.parametrize("command", [Inspect, Evaluate])
def test_the_file_comes_first_without_a_flag(command: type) -> None:
    rest = ["--shards", "made"] if command is Evaluate else []
    assert tyro.cli(command, args=["conse", *rest]).file == "conse"


def test_an_extraction_without_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="--scannet, --images or --store"):
        Extract(shards=tmp_path / "shards")()


def test_an_interrupted_training_goes_on_to_the_same_weights(shards: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    Train((shards,), whole, held_out=("scene1",), latent_dim=3, training=QUICK)()
    # The second training finds the checkpoint of the last step and does nothing.
    Train((shards,), whole, held_out=("scene1",), latent_dim=3, training=QUICK)()
    Train((shards,), parts, held_out=("scene1",), latent_dim=3, training=QUICK)()
    first, second = load_autoencoder(whole).state_dict(), load_autoencoder(parts).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
