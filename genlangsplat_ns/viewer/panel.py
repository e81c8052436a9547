"""The viewer's language panel: texts, how they are answered and shown, and buttons that act on what answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Thread, current_thread

from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerCheckbox,
    ViewerClick,
    ViewerControl,
    ViewerDropdown,
    ViewerSlider,
    ViewerText,
)
from torch import nn

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.language.field import Peak
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery, embed_query
from genlangsplat_ns.language.selection import GaussianSelection
from genlangsplat_ns.language.settings import DEFAULT_NEGATIVES, LEVEL_RULES, LevelRule, QueryMode, split_texts
from genlangsplat_ns.language.vocabulary import Vocabulary, read_vocabulary
from genlangsplat_ns.viewer.flight import fly_to
from genlangsplat_ns.viewer.tools import SceneTools

LOGGER = logging.getLogger(__name__)

MODES: list[QueryMode] = ["gaussian", "rendered"]

NAMES_TOLD = 5
"""Texts of the vocabulary that are told after a click."""


class LanguageControls(nn.Module):
    """Texts, negatives, level, mode, threshold and buttons, in a folder of their own.

    nerfstudio finds viewer elements on modules only, hence the base class; it holds no weights. The encoder is loaded
    with the first question and belongs to no module, so that no checkpoint carries it.

    Texts are embedded in a thread of their own, and buttons work in the viewer's thread for clicks. The viewer's render
    thread is traced, which makes loading the encoder ten times slower there, and it is broken off whenever the camera
    moves, which would begin the loading again and again. A render therefore only reads what is ready, and takes no
    lock: broken off, it would never give it back.
    """

    def __init__(
        self,
        load_encoder: Callable[[], ImageTextEncoder],
        tools: SceneTools,
        texts: str = "",
        mode: QueryMode = "gaussian",
    ) -> None:
        super().__init__()
        self._load_encoder = load_encoder
        self._tools = tools
        self._embedded: EmbeddedQuery | None = None
        self._embedding: Thread | None = None
        self._peaks: list[Peak] = []
        self._vocabulary: tuple[str, Vocabulary] | None = None
        self.control = ViewerControl()
        # The viewer sorts elements by attribute name.
        self.a_texts = ViewerText("Texts", texts, hint="What to look for; several texts are separated by semicolons")
        self.b_negatives = ViewerText("Negatives", "; ".join(DEFAULT_NEGATIVES), hint="What the texts compete with")
        self.c_level = ViewerDropdown("Level", TextQuery.level, list(LEVEL_RULES), hint="Small parts to whole things")
        self.d_prompts = ViewerCheckbox("Prompts", False, hint="Put the texts into sentences such as a photo of ...")
        self.e_ask = ViewerButton("Ask", self.ask)
        self.f_answer = ViewerText("Answer", "", disabled=True, hint="What the scene answers, and what went wrong")
        self.g_mode = ViewerDropdown(
            "Mode", mode, MODES, hint="Score Gaussians once (fast), or every pixel (the paper)"
        )
        self.h_threshold = ViewerSlider("Threshold", TextQuery.threshold, 0.0, 1.0, 0.01, hint="Of what is selected")
        self.i_softness = ViewerSlider("Softness", 0.05, 0.0, 0.5, 0.01, hint="Width of the edge of what is selected")
        self.j_isolate = ViewerButton("Isolate", self._button(self._isolate))
        self.k_hide = ViewerButton("Hide", self._button(self._hide))
        self.l_reset = ViewerButton("Show all", self._button(self._show_all))
        self.m_peak = ViewerButton("Next peak", self._button(self._fly))
        self.n_path = ViewerText("File", "selection.ply", hint="Where to export; relative to where the viewer began")
        self.o_export = ViewerButton("Export PLY", self._button(self._export))
        self.p_vocabulary = ViewerText("Vocabulary", "", hint="File of texts, one a line; empty for common things")
        self.q_name = ViewerButton("Click: what is here?", self._button(lambda: self._await_click(self._name)))
        self.r_like = ViewerButton(
            "Click: find what looks like this", self._button(lambda: self._await_click(self._find))
        )

    # Questions

    def ask(self, _: ViewerButton | None = None) -> None:
        """Takes over what stands in the boxes and begins to embed it; typing alone changes nothing."""
        settings = (self.a_texts.value, self.b_negatives.value, self.c_level.value, self.d_prompts.value)
        self._embedding = Thread(target=self._embed, args=settings)
        self._embedding.start()

    def _embed(self, texts: str, negatives: str, level: LevelRule, prompts: bool) -> None:
        """Embeds a question and puts it up, unless another one was asked meanwhile; what is wrong with it is said."""
        self.f_answer.value = "embedding the texts ..."
        embedded, answer = None, ""
        if texts.strip():
            try:
                query = TextQuery(split_texts(texts), negatives=(negatives,), level=level, prompts=prompts)
                embedded = embed_query(query, self._load_encoder())
                answer = "; ".join(query.texts)
            except GenLangSplatError as error:
                LOGGER.error("%s", error)
                answer = str(error)
        if current_thread() is self._embedding:
            self._put_up(embedded, answer)

    def _put_up(self, embedded: EmbeddedQuery | None, answer: str) -> None:
        self._embedded, self._peaks = embedded, []
        # A changed element makes the viewer draw again.
        self.f_answer.value = answer

    def query(self) -> EmbeddedQuery | None:
        """The question last asked, embedded; None when there is none or it cannot be understood.

        The viewer gets the question before until the new one is embedded, and draws again then. Without a viewer, as
        in ns-render, the answer belongs into every picture, so this waits for it.
        """
        in_viewer = self.e_ask.gui_handle is not None
        if self._embedding is not None and not in_viewer:
            self._embedding.join()
        return self._embedded

    # Buttons

    def _button(self, action: Callable[[], str]) -> Callable[[ViewerButton], None]:
        """Makes a button of what it does, which returns what to say; mistakes are said instead."""

        def pressed(_: ViewerButton) -> None:
            try:
                self.f_answer.value = action()
            except GenLangSplatError as error:
                LOGGER.error("%s", error)
                self.f_answer.value = str(error)

        return pressed

    def _asked(self) -> EmbeddedQuery:
        if self._embedding is not None:
            self._embedding.join()
        if self._embedded is None:
            raise GenLangSplatError("Nothing is asked yet. Give a text under Texts and press Ask.")
        return self._embedded

    def _selected(self) -> GaussianSelection:
        return self._tools.select(self._asked(), self.h_threshold.value)

    def _isolate(self) -> str:
        selection = self._selected()
        self._tools.show(selection.keep)
        return f"{selection.count:,} Gaussians are shown alone"

    def _hide(self) -> str:
        selection = self._selected()
        self._tools.show((~selection).keep)
        return f"{selection.count:,} Gaussians are hidden"

    def _show_all(self) -> str:
        self._tools.show(None)
        return "all Gaussians are shown"

    def _export(self) -> str:
        path, selection = Path(self.n_path.value.strip()).expanduser(), self._selected()
        self._tools.export(selection, path)
        return f"{selection.count:,} Gaussians are written to {path.resolve()}"

    def _fly(self) -> str:
        if not self._peaks:
            self._peaks = self._tools.peaks(self._asked(), self.h_threshold.value)
        peak = self._peaks.pop(0)
        fly_to(self.control.server, peak.center, peak.size)
        return f"relevancy {peak.score:.2f}; {len(self._peaks)} more"

    # Clicks on the scene

    def _await_click(self, then: Callable[[ViewerClick], str]) -> str:
        """Gives the next click on the scene to an action."""

        def clicked(click: ViewerClick) -> None:
            self.control.unregister_pointer_cb()
            self._button(lambda: then(click))(self.q_name)

        self.control.register_pointer_cb("click", clicked)
        return "click on the scene"

    def _name(self, click: ViewerClick) -> str:
        """Names what was clicked with the nearest texts of the vocabulary, for each of them its best level."""
        embeddings = self._tools.embeddings_at(click, self.c_level.value)
        found = self._texts().nearest(embeddings, NAMES_TOLD)
        return "; ".join(f"{text} {cosine:.2f}" for text, cosine in found)

    def _find(self, click: ViewerClick) -> str:
        """Asks for what looks like the thing that was clicked."""
        query = self._tools.query_like(click, self.c_level.value)
        self._embedding = None
        self._put_up(query, "")
        return "shown is what looks like this"

    def _texts(self) -> Vocabulary:
        """The vocabulary of the box, embedded when it has changed."""
        path = self.p_vocabulary.value.strip()
        if self._vocabulary is None or self._vocabulary[0] != path:
            texts = read_vocabulary(Path(path).expanduser() if path else None)
            self._vocabulary = path, Vocabulary.embed(texts, self._load_encoder())
        return self._vocabulary[1]
