"""The commands for embeddings and autoencoders, and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tyro
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import extractor
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialize_from_pca
from genlangsplat_ns.language.named_autoencoders import load_autoencoder
from genlangsplat_ns.views.downscaling import AUTOMATIC_SIDE
from pretrain import frame_worker
from pretrain.artifact_commands import Evaluate, Export, Inspect
from pretrain.embedding_commands import Check, Cross, Extract, Split, Sweep, Train
from pretrain.fidelity import PcaBaseline, measure_fidelity
from pretrain.report import closing_line
from pretrain.scene_files import read_folders, write_scene
from pretrain.settings import TrainingSettings
from tests.features.fakes import DIM, MeanColorEncoder, TileMasks
from tests.pretrain.embedding_fakes import DAMAGES, IDENTITY, damage, write_scenes
from tests.pretrain.embedding_fakes import frames as scene_frames

QUICK = TrainingSettings(steps=40, batch_size=16, learning_rate=1e-3, eval_every=20, checkpoint_every=20)


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    """Four scenes."""
    write_scenes(tmp_path / "embeddings", 4)
    return tmp_path / "embeddings"


def names(split: Split) -> tuple[list[str], list[str]]:
    return [file.scene for file in split.trained], [file.scene for file in split.held_out]


def test_photographs_become_an_autoencoder_under_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole road: extract, check, train, evaluate, export."""
    cache = "genlangsplat_ns.language.named_autoencoders.platformdirs.user_cache_dir"
    monkeypatch.setattr(cache, lambda name: str(tmp_path / name))
    monkeypatch.setattr(frame_worker, "load_mask_generator", lambda *asked: TileMasks())
    monkeypatch.setattr(frame_worker, "load_encoder", lambda *asked: MeanColorEncoder())
    monkeypatch.setattr(extractor, "encoder_identity", lambda *asked: MeanColorEncoder.identity)
    monkeypatch.setattr(extractor, "encoder_embedding_dim", lambda *asked: DIM)
    for scene in ("kitchen", "garden", "hall"):
        (tmp_path / "photos" / scene).mkdir(parents=True)
        pixels = np.random.default_rng(len(scene)).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / scene / "one.png")
    folder, output = tmp_path / "embeddings", tmp_path / "small.safetensors"
    Extract(embeddings=folder, images=tmp_path / "photos", encoder="conse", masks="watershed")()
    assert [file.scene for file in read_folders((folder,))] == ["garden", "hall", "kitchen"]
    Check(folder)()
    Train(embeddings=(folder,), output=output, latent_dim=3, training=QUICK)()
    Evaluate(str(output), (folder,))()
    Export(str(output))()
    assert load_autoencoder("small", encoder_identity=MeanColorEncoder.identity).identity.latent_dim == 3


def test_training_writes_an_artifact_that_says_what_it_is(embeddings: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "small.safetensors"
    Train(embeddings=(embeddings,), output=output, held_out=("scene1",), latent_dim=3, training=QUICK)()
    identity = load_autoencoder(output, encoder_identity=MeanColorEncoder.identity).identity
    assert (identity.embedding_dim, identity.latent_dim, identity.architecture) == (DIM, 3, "residual")
    assert identity.training_data == "90 regions of 3 scenes"
    assert identity.held_out_cosine == identity.figures["held out: cosine"]
    assert 0 < identity.figures["held out: latent spread"] <= 1
    Inspect(str(output))()
    Evaluate(str(output), (embeddings,))()
    said = capsys.readouterr().out
    assert MeanColorEncoder.identity in said and "subpart" in said and "whole" in said


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_embeddings_are_named_before_they_are_used(embeddings: Path, tmp_path: Path, kind: str, capsys) -> None:
    output = tmp_path / "small.safetensors"
    Train(embeddings=(embeddings,), output=output, latent_dim=3, training=QUICK)()
    Check(embeddings)()
    assert "4 files are intact: 120 embeddings of 12 frames. 0 frames failed." in capsys.readouterr().out
    damage(embeddings / "made" / "scene2.safetensors", kind)
    for command in (
        Check(embeddings),
        Train(embeddings=(embeddings,), output=output, training=QUICK),
        Evaluate(str(output), (embeddings,)),
    ):
        with pytest.raises(GenLangSplatError, match=r"scene2\.safetensors is .*damaged"):
            command()


def test_frames_that_failed_once_and_succeeded_later_do_not_count_as_failed(tmp_path: Path, capsys) -> None:
    for failed, kept in ({"0": "dark", "1": "dark"}, {}), ({"1": "dark"}, scene_frames(0)):
        write_scene(tmp_path, IDENTITY, "made", "scene0", {key[2:]: rows for key, rows in kept.items()}, failed)
    Check(tmp_path)()
    assert "2 files are intact: 30 embeddings of 3 frames. 0 frames failed." in capsys.readouterr().out


class NearlyConstant(torch.nn.Module):
    """An encoder whose latents are nearly equal, but use all dimensions."""

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return 1 + 1e-4 * torch.randn(len(embeddings), 4, generator=torch.Generator().manual_seed(0))


def test_a_collapsed_or_unfaithful_autoencoder_is_not_recommended() -> None:
    rows = F.normalize(torch.randn(300, 12, generator=torch.Generator().manual_seed(1)), dim=-1)

    def line(autoencoder: Autoencoder) -> str:
        return closing_line(Path("a.safetensors"), measure_fidelity(autoencoder.eval(), rows, PcaBaseline(rows)))

    good = Autoencoder(AutoencoderIdentity("t", "t/1", 12, 4, "residual"))
    initialize_from_pca(good, rows)
    assert line(good) == "Wrote a.safetensors. Use it with --pipeline.model.autoencoder a.safetensors."
    untrained = line(Autoencoder(AutoencoderIdentity("t", "t/1", 12, 4, "mlp")))
    assert "but do not use it: it is unfaithful" in untrained and "Use it with" not in untrained
    good.encoder = NearlyConstant()
    assert "but do not use it: its latents collapsed" in line(good) and "Use it with" not in line(good)


def test_texts_are_embedded_by_the_encoder_of_the_embeddings(embeddings: Path, tmp_path: Path) -> None:
    Train(embeddings=(embeddings,), output=tmp_path / "small.safetensors", latent_dim=3, training=QUICK)()
    with pytest.raises(GenLangSplatError, match=r"embeddings are of colors/1.*conse"):
        Evaluate(str(tmp_path / "small.safetensors"), (embeddings,), texts=("a fox",), encoder="conse")()


def test_without_names_every_tenth_scene_is_held_out(tmp_path: Path) -> None:
    write_scenes(tmp_path, 12)
    trained, held_out = names(Split.of_folders([tmp_path]))
    assert held_out == ["scene0", "scene8"]
    assert sorted(trained + held_out) == sorted(f"scene{number}" for number in range(12))


def test_scenes_that_leave_nothing_to_train_or_measure_are_refused(embeddings: Path, tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"scene9.*scene0, scene1"):
        Split.of_folders([embeddings], ("scene9",))
    with pytest.raises(GenLangSplatError, match="none is left"):
        Split.of_folders([embeddings], ("scene0", "scene1", "scene2", "scene3"))
    write_scenes(tmp_path / "one", 1)
    with pytest.raises(GenLangSplatError, match="at least two"):
        Split.of_folders([tmp_path / "one"])


def test_a_sweep_measures_every_width_on_the_same_rows_and_draws_them(embeddings: Path, tmp_path: Path) -> None:
    Sweep(
        embeddings=(embeddings,),
        output_dir=tmp_path / "out",
        held_out=("scene2",),
        latent_dims=(2, 4),
        training=QUICK,
    )()
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert list(rows) == ["2", "4"]
    assert rows["2"]["constant"] == rows["4"]["constant"]
    assert rows["4"]["PCA cosine"] > rows["2"]["PCA cosine"]
    assert Image.open(tmp_path / "out" / "sweep.png").size[0] > 100


def test_a_table_across_domains_has_every_pair_of_them(embeddings: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "others", 3, first=50)
    output = tmp_path / "cross.json"
    Cross(embeddings=(embeddings, tmp_path / "others"), output=output, latent_dim=3, training=QUICK)()
    figures = json.loads(output.read_text())
    assert {name: list(row) for name, row in figures.items()} == {
        "embeddings": ["embeddings", "others"],
        "others": ["embeddings", "others"],
    }
    with pytest.raises(GenLangSplatError, match="different names, found embeddings"):
        Cross(embeddings=(embeddings,), output=output, training=QUICK)()


@pytest.mark.parametrize("command", [Inspect, Evaluate])
def test_the_file_comes_first_without_a_flag(command: type) -> None:
    rest = ["--embeddings", "made"] if command is Evaluate else []
    assert tyro.cli(command, args=["conse", *rest]).file == "conse"


def test_extraction_needs_a_source_and_sees_frames_at_the_size_of_scenes(tmp_path: Path) -> None:
    command = tyro.cli(Extract, args=["--embeddings", str(tmp_path)])
    assert command.max_side == AUTOMATIC_SIDE
    with pytest.raises(GenLangSplatError, match="--scannet FOLDER"):
        command()
