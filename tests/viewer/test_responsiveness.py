"""The viewer may interrupt frames at any line of Python without losing or corrupting state."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Event
from types import FrameType
from typing import Any, cast

import pytest
import torch
from jaxtyping import TypeCheckError
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer_elements import ViewerElement
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException, SetTrace
from torch import Tensor
from torch.nn.functional import normalize

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.language.decoding import rows_at_a_time
from genlangsplat_ns.language.memory import SceneMemory
from genlangsplat_ns.language.named_autoencoders import scene_autoencoder
from genlangsplat_ns.language.visualize import LatentPca
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.model import GenLangSplatModel, GenLangSplatModelConfig
from genlangsplat_ns.schedulers import FusedAdamOptimizerConfig

NUM_GAUSSIANS = 400
NUM_INTERRUPTS = 60

BROKEN_OFF = (IOChangeException, TypeCheckError)
"""Exceptions raised by an interrupted frame; a type check that is interrupted reports a violation."""


class BlockedEncoder:
    """Embeds texts as fixed vectors, once `ready` is set."""

    def __init__(self) -> None:
        self.ready = Event()
        self.calls = 0

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.calls += 1
        assert self.ready.wait(timeout=60)
        return normalize(torch.randn(len(texts), 384, generator=torch.Generator().manual_seed(3)), dim=-1)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> BlockedEncoder:
    """The encoder that the panel loads; it returns immediately unless `ready` is cleared."""
    encoder = BlockedEncoder()
    encoder.ready.set()
    monkeypatch.setattr(FeatureExtractor, "load_text_encoder", lambda extractor: encoder)
    return encoder


def some_memory(model: GenLangSplatModel) -> SceneMemory:
    """A memory with keys for some of the Gaussians' latents; the prior decodes the others."""
    values = normalize(torch.randn(90, 384, generator=torch.Generator().manual_seed(2)), dim=-1)
    keys, encoder = some_latents().latents[:30].flatten(0, 1), model.field_head.autoencoder.identity.encoder
    return SceneMemory(keys, torch.full((90,), -4.5), values, 60.0, encoder)


def some_latents() -> LiftedLatents:
    latents = torch.randn(NUM_GAUSSIANS, 3, 16, generator=torch.Generator().manual_seed(1))
    return LiftedLatents(normalize(latents, dim=-1), torch.ones(NUM_GAUSSIANS, 3))


@pytest.fixture
def model(encoder: BlockedEncoder) -> GenLangSplatModel:
    """A ball of Gaussians in the language phase, opened in a viewer."""
    torch.manual_seed(0)
    config = GenLangSplatModelConfig(sh_degree=1, random_init=True, num_random=NUM_GAUSSIANS, random_scale=2.0)
    extractor = FeatureExtractor(FeatureSettings(encoder="conse", masks="watershed"))
    autoencoder = scene_autoencoder("auto", extractor.encoder_identity, extractor.embedding_dim)
    scene_box = SceneBox(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    model = config.setup(
        scene_box=scene_box,
        num_train_data=1,
        metadata={},
        autoencoder=autoencoder,
        load_text_encoder=extractor.load_text_encoder,
    )
    model.enter_language_phase(0)
    model.set_latents(some_latents())
    model.language.e_ask.gui_handle = cast(Any, "installed")
    return model.eval()


def some_camera(width: int = 24, height: int = 16) -> Cameras:
    pose = torch.eye(4)[:3]
    pose[2, 3] = 3.0
    return Cameras(pose[None], fx=0.6 * width, fy=0.6 * width, cx=width / 2, cy=height / 2, width=width, height=height)


class Interrupt:
    """The viewer's tracer, with a camera move at the given line of a frame (None for no move)."""

    def __init__(self, line: int | None = None) -> None:
        self.machine = RenderStateMachine(cast(Any, None), 1.0, cast(Any, None))
        self.line = line
        self.num_lines = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if any(checker in frame.f_code.co_filename for checker in ("jaxtyping", "beartype")):
            return (
                None  # Lines of type checks are skipped, because they run only in tests and would be most of the lines.
            )
        if event == "line":
            self.num_lines += 1
            self.machine.interrupt_render_flag = self.machine.interrupt_render_flag or self.num_lines == self.line
        self.machine.check_interrupt(frame, event, argument)
        return self


def render(
    model: GenLangSplatModel, tracer: Interrupt | None = None, camera: Cameras | None = None
) -> dict[str, Tensor]:
    """Renders like the viewer's render thread."""
    # nerfstudio's tracer removes that of a debugger or of coverage.
    earlier = sys.gettrace()
    try:
        with torch.no_grad(), SetTrace(tracer or Interrupt()):
            return model.get_outputs_for_camera(camera or some_camera())
    finally:
        sys.settrace(earlier)


def ask(model: GenLangSplatModel, texts: str) -> None:
    """Enters texts, presses the button and waits until they are embedded."""
    model.language.a_texts.value = texts
    model.language.e_ask.cb_hook(model.language.e_ask)
    thread = model.language._embedding
    assert thread is not None
    thread.join()


def assert_same(outputs: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(outputs[name], value), name


@pytest.mark.parametrize(
    ("texts", "decoder"), [("", "autoencoder"), ("a fox; a frame", "autoencoder"), ("a fox; a frame", "memory")]
)
def test_a_frame_interrupted_at_any_line_does_not_affect_the_next_one(
    model: GenLangSplatModel, texts: str, decoder: str
) -> None:
    ask(model, texts)
    memory = some_memory(model) if decoder == "memory" else None
    model.set_latents(some_latents(), memory)
    count = Interrupt()
    expected = render(model, count)
    assert bool(expected["latent_pca"].any()) and bool(expected["relevancy"].any()) == bool(texts)
    broken_off = 0
    for line in range(1, count.num_lines, max(1, count.num_lines // NUM_INTERRUPTS)):
        # The interrupted frame is the first one, which fits the principal components and decodes.
        model.set_latents(some_latents(), None if memory is None else some_memory(model))
        try:
            render(model, Interrupt(line))
        except BROKEN_OFF:
            broken_off += 1
        assert_same(render(model), expected)
    assert broken_off > NUM_INTERRUPTS // 2


def test_a_text_is_embedded_once_even_if_frames_are_interrupted(
    model: GenLangSplatModel, encoder: BlockedEncoder
) -> None:
    encoder.ready.clear()
    model.language.a_texts.value = "a fox"
    model.language.e_ask.cb_hook(model.language.e_ask)
    count = Interrupt()
    assert not render(model, count)["relevancy"].any(), "a frame does not wait for the encoder"
    for line in range(1, count.num_lines, count.num_lines // 10):
        with suppress(*BROKEN_OFF):
            render(model, Interrupt(line))
    encoder.ready.set()
    thread = model.language._embedding
    assert thread is not None
    thread.join()
    assert render(model)["relevancy"].any()
    assert encoder.calls == 1


def test_only_visible_latents_are_decoded_in_small_chunks(model: GenLangSplatModel) -> None:
    model.language.g_mode.value = "rendered"
    ask(model, "a fox")
    rows: list[int] = []
    model.field_head.autoencoder.decoder.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    camera = some_camera(96, 64)
    render(model, camera=camera)
    shown = int((model.render_latents(camera).norm(dim=-1) > 1e-2).sum())
    chunk = rows_at_a_time(model.field.decode, model.device)
    assert chunk < shown < 96 * 64 * 3
    assert max(rows) <= chunk and sum(rows) == shown


def test_latent_colors_are_computed_again_only_when_latents_change(
    model: GenLangSplatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    colored: list[int] = []
    apply = LatentPca.apply

    def counted(self: LatentPca, latents: Tensor) -> Tensor:
        colored.append(len(latents))
        return apply(self, latents)

    monkeypatch.setattr(LatentPca, "apply", counted)
    first = render(model)["latent_pca"]
    render(model, camera=some_camera(12, 8))
    assert colored == [NUM_GAUSSIANS]
    lifted = some_latents()
    model.set_latents(LiftedLatents(lifted.latents.flip(0), lifted.mass))
    assert not torch.equal(render(model)["latent_pca"], first)
    assert len(colored) == 2


def test_zero_latents_are_black(model: GenLangSplatModel) -> None:
    model.set_latents(LiftedLatents(torch.zeros(NUM_GAUSSIANS, 3, 16), torch.zeros(NUM_GAUSSIANS, 3)))
    assert not render(model)["latent_pca"].any()


def test_an_optimizer_step_on_the_latents_changes_their_colors(model: GenLangSplatModel) -> None:
    model.config.language_solver = "adam"
    model.enter_language_phase(0)
    before = render(model)["latent_pca"]
    optimizer = FusedAdamOptimizerConfig(lr=0.5).setup([model.latents])
    model.train()
    model.get_outputs(some_camera())["latents"].square().sum().backward()
    optimizer.step()
    model.eval()
    assert not torch.equal(render(model)["latent_pca"], before)


def test_the_viewer_reads_every_attribute_of_a_model_in_the_rgb_phase(model: GenLangSplatModel) -> None:
    model.language_phase_start.fill_(-1)
    model._apply_phase()
    names = [path for path, _ in parse_object(model, ViewerElement, "model")]
    assert any("a_texts" in name for name in names)
    with pytest.raises(GenLangSplatError, match="no language phase yet"):
        model.language_field()
