"""The viewer's language panel, without a browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from torch import Tensor, nn

from genlangsplat_ns.features.encoders import load_encoder
from genlangsplat_ns.viewer.panel import LanguageControls
from genlangsplat_ns.viewer.tools import SceneTools


def panel_with(load: Callable[[], Any], texts: str = "") -> LanguageControls:
    """A panel whose buttons have no scene."""
    return LanguageControls(load, create_autospec(SceneTools, instance=True), texts)


def ask(panel: LanguageControls, texts: str) -> None:
    """Enters a text and presses the button."""
    panel.a_texts.value = texts
    panel.e_ask.cb_hook(panel.e_ask)


def test_texts_are_embedded_only_when_the_button_is_pressed() -> None:
    panel = panel_with(partial(load_encoder, "conse"))
    assert panel.query() is None
    panel.a_texts.value = "a fox"
    assert panel.query() is None
    ask(panel, "a fox; picture frame")
    embedded = panel.query()
    assert embedded is not None and embedded.query.texts == ("a fox", "picture frame")
    assert panel.query() is embedded, "the question is embedded once"


def test_a_text_of_the_config_is_queried_immediately() -> None:
    panel = panel_with(partial(load_encoder, "conse"), "a fox")
    panel.ask()
    embedded = panel.query()
    assert embedded is not None and embedded.query.texts == ("a fox",)


def test_the_settings_of_the_panel_reach_the_query() -> None:
    panel = panel_with(partial(load_encoder, "conse"))
    panel.b_negatives.value = "wall; ; floor"
    panel.c_level.value = "whole"
    ask(panel, "a fox")
    embedded = panel.query()
    assert embedded is not None
    assert (embedded.query.negatives, embedded.query.level) == (("wall", "floor"), "whole")


def test_a_superseded_query_is_discarded() -> None:
    first_may_end = Event()

    class Encoder:
        def encode_texts(self, texts: Sequence[str]) -> Tensor:
            if "a fox" in texts:
                assert first_may_end.wait(timeout=60)
            return torch.eye(len(texts))

    panel = panel_with(Encoder)
    ask(panel, "a fox")
    superseded = panel._embedding
    ask(panel, "a cup")
    embedded = panel.query()
    first_may_end.set()
    assert superseded is not None
    superseded.join()
    assert embedded is not None and embedded.query.texts == ("a cup",)
    assert panel.query() is embedded and panel.f_answer.value == "a cup"


def test_an_error_is_shown_once_and_the_panel_keeps_working(caplog: pytest.LogCaptureFixture) -> None:
    panel = panel_with(partial(load_encoder, "conse"))
    panel.b_negatives.value = " ; "
    ask(panel, "a fox")
    assert panel.query() is None
    assert "negative" in caplog.text
    assert panel.query() is None and len(caplog.messages) == 1, "the error is logged once"
    panel.b_negatives.value = "things"
    ask(panel, "a fox")
    assert panel.query() is not None


def test_the_panel_is_not_part_of_a_checkpoint() -> None:
    panel = panel_with(partial(load_encoder, "conse"), "a fox")
    panel.ask()
    panel.query()
    assert isinstance(panel, nn.Module) and not panel.state_dict()
