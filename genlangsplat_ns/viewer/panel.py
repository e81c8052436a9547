"""The viewer's language panel: query texts, query settings, and buttons that act on the selected Gaussians."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Thread, current_thread
from typing import cast

from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerCheckbox,
    ViewerClick,
    ViewerControl,
    ViewerDropdown,
    ViewerText,
)
from torch import nn
from viser import ClientHandle, ViserServer

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.language.field import Peak
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery, embed_query
from genlangsplat_ns.language.selection import GaussianSelection
from genlangsplat_ns.language.settings import DEFAULT_NEGATIVES, LEVEL_RULES, LevelRule, QueryMode, split_texts
from genlangsplat_ns.language.vocabulary import Vocabulary, read_vocabulary
from genlangsplat_ns.viewer.flight import fly_to, start_at
from genlangsplat_ns.viewer.lasting_server import answer_after_errors, let_go_of_the_gone, return_free_memory
from genlangsplat_ns.viewer.tools import SceneTools
from genlangsplat_ns.viewer.top_folder import InTopFolder, TopButton, TopDropdown, TopFolder, TopSlider, TopText
from genlangsplat_ns.viewer.training_views import TrainingViews

LOGGER = logging.getLogger(__name__)

MODES: list[QueryMode] = ["gaussian", "rendered"]

NUM_NAMES = 5
"""Number of vocabulary texts shown after a click."""


class LanguageControls(nn.Module):
    """The viewer elements for texts, negatives, level, mode, threshold and buttons.

    Most go to the folder "Language" at the top of the viewer's panel. Negatives, prompts, mode and vocabulary are
    seldom changed and stay where nerfstudio puts the elements of a model.

    This is a module without weights, because nerfstudio finds viewer elements only on modules. The encoder is loaded
    with the first query and belongs to no module, so that checkpoints do not contain it.

    Texts are embedded in a separate thread, and buttons run in the viewer's click thread. The viewer traces its render
    thread, which would make loading the encoder ten times slower, and interrupts it whenever the camera moves, which
    would restart the loading. Therefore a render only reads finished results. It takes no lock, because an interrupted
    render would never release it.
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
        self.views: TrainingViews | None = None
        # The viewer sorts elements by attribute name.
        self.a_texts = TopText("Texts", texts, hint="Texts to find, separated by semicolons")
        self.b_negatives = ViewerText("Negatives", "; ".join(DEFAULT_NEGATIVES), hint="Texts to compete with")
        self.c_level = TopDropdown("Level", TextQuery.level, list(LEVEL_RULES), hint="From subparts to wholes")
        self.d_prompts = ViewerCheckbox("Prompts", False, hint="Embed the texts in sentences such as a photo of ...")
        self.e_ask = TopButton("Ask", self.ask)
        self.f_answer = TopText("Answer", "", disabled=True, hint="Results and error messages")
        self.g_mode = ViewerDropdown(
            "Mode", mode, MODES, hint="Score Gaussians once (fast), or every pixel (the paper)"
        )
        self.h_threshold = TopSlider(
            "Threshold", TextQuery.threshold, 0.0, 1.0, 0.01, hint="Minimum relevancy of the selection"
        )
        self.i_softness = TopSlider("Softness", 0.05, 0.0, 0.5, 0.01, hint="Width of the edge of the selection")
        self.j_isolate = TopButton("Isolate", self._button(self._isolate))
        self.k_hide = TopButton("Hide", self._button(self._hide))
        self.l_reset = TopButton("Show all", self._button(self._show_all))
        self.m_peak = TopButton("Next peak", self._button(self._fly))
        self.n_path = TopText(
            "File",
            "selection.ply",
            hint="File for Export in the viewer's working folder: .ply, .compressed.ply, .spz or .sog",
        )
        self.o_export = TopButton("Export", self._button(self._export))
        self.p_vocabulary = ViewerText("Vocabulary", "", hint="File with one text per line; empty for common things")
        self.q_name = TopButton("Click: what is here?", self._button(lambda: self._await_click(self._name)))
        self.r_like = TopButton("Click: find what looks like this", self._button(lambda: self._await_click(self._find)))
        folder = TopFolder("Language", self._await_browsers)
        for element in vars(self).values():
            if isinstance(element, InTopFolder):
                element.folder = folder

    def _await_browsers(self, server: ViserServer) -> None:
        answer_after_errors(server)
        server.on_client_connect(self._show_first_view)
        let_go_of_the_gone(server)
        return_free_memory(server)

    def _show_first_view(self, client: ClientHandle) -> None:
        """Lets the camera of a new browser start at the first training view."""
        if self.views is not None and len(self.views.names) > 0:
            start_at(client, self.views.cameras[0])

    # Queries

    def ask(self, _: ViewerButton | None = None) -> None:
        """Starts to embed the texts in the boxes; typing alone has no effect."""
        settings = (self.a_texts.value, self.b_negatives.value, self.c_level.value, self.d_prompts.value)
        self._embedding = Thread(target=self._embed, args=settings)
        self._embedding.start()

    def _embed(self, texts: str, negatives: str, level: LevelRule, prompts: bool) -> None:
        """Embeds a query and shows it or its error, unless a newer query was started meanwhile."""
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
            self._set_query(embedded, answer)
        if embedded is not None and self.views is not None:
            self._name_best_views(embedded, answer, self.views)

    def _name_best_views(self, embedded: EmbeddedQuery, answer: str, views: TrainingViews) -> None:
        """Adds the views that show the peaks best to the answer, unless there is a newer query."""
        try:
            peaks = self._tools.peak(embedded)
        except GenLangSplatError as error:
            LOGGER.error("%s", error)
            return
        best = [views.best(peak, self._tools.distance_along) or "no view" for peak in peaks]
        if self._embedded is embedded:
            self.f_answer.value = f"{answer} (best seen in {'; '.join(best)})"

    def _set_query(self, embedded: EmbeddedQuery | None, answer: str) -> None:
        self._embedded, self._peaks = embedded, []
        # Changing an element makes the viewer render again.
        self.f_answer.value = answer

    def query(self) -> EmbeddedQuery | None:
        """Returns the last embedded query; None if there is none or it is invalid.

        While a new query is embedded, the viewer gets the previous one; it renders again when the new one is ready.
        Without a viewer, as in ns-render, this waits for the new query, because every image needs it.
        """
        in_viewer = self.e_ask.gui_handle is not None
        if self._embedding is not None and not in_viewer:
            self._embedding.join()
        return self._embedded

    # Buttons

    def _button(self, action: Callable[[], str]) -> Callable[[ViewerButton], None]:
        """Returns a button callback that runs an action and shows the message it returns, or the error."""

        def pressed(_: ViewerButton) -> None:
            try:
                self.f_answer.value = action()
            except GenLangSplatError as error:
                LOGGER.error("%s", error)
                self.f_answer.value = str(error)

        return pressed

    def _require_query(self) -> EmbeddedQuery:
        if self._embedding is not None:
            self._embedding.join()
        if self._embedded is None:
            raise GenLangSplatError("There is no query yet. Enter a text under Texts and press Ask.")
        return self._embedded.with_threshold(self.h_threshold.value)

    def _select(self) -> GaussianSelection:
        return self._tools.field().select(self._require_query())

    def _isolate(self) -> str:
        selection = self._select()
        self._tools.show(selection.keep)
        return f"only the {selection.count:,} selected Gaussians are shown"

    def _hide(self) -> str:
        selection = self._select()
        self._tools.show((~selection).keep)
        return f"{selection.count:,} Gaussians are hidden"

    def _show_all(self) -> str:
        self._tools.show(None)
        return "all Gaussians are shown"

    def _export(self) -> str:
        path, selection = Path(self.n_path.value.strip()).expanduser(), self._select()
        self._tools.export(selection, path)
        return f"{selection.count:,} Gaussians are written to {path.resolve()}"

    def _fly(self) -> str:
        if not self._peaks:
            self._peaks = self._tools.field().peaks(self._require_query())
        peak = self._peaks.pop(0)
        fly_to(self.control.server, peak.center, peak.size)
        return f"relevancy {peak.score:.2f}; {len(self._peaks)} more"

    # Clicks on the scene

    def _await_click(self, action: Callable[[ViewerClick], str]) -> str:
        """Passes the next click on the scene to an action."""

        def clicked(click: ViewerClick) -> None:
            self.control.unregister_pointer_cb()
            self._button(lambda: action(click))(self.q_name)

        self.control.register_pointer_cb("click", clicked)
        return "click on the scene"

    @property
    def _level(self) -> LevelRule:
        return cast(LevelRule, self.c_level.value)

    def _name(self, click: ViewerClick) -> str:
        """Names the clicked object with the nearest texts of the vocabulary, each scored at its best level."""
        embeddings = self._tools.embeddings_at(click, self._level)
        found = self._load_vocabulary().nearest(embeddings, NUM_NAMES)
        return "; ".join(f"{text} {cosine:.2f}" for text, cosine in found)

    def _find(self, click: ViewerClick) -> str:
        """Sets a query for everything similar to the clicked object."""
        query = self._tools.query_like(click, self._level)
        self._embedding = None
        self._set_query(query, "")
        return "showing everything that looks like this"

    def _load_vocabulary(self) -> Vocabulary:
        """Returns the vocabulary of the box, which is embedded again if the box has changed."""
        path = self.p_vocabulary.value.strip()
        if self._vocabulary is None or self._vocabulary[0] != path:
            texts = read_vocabulary(Path(path).expanduser() if path else None)
            self._vocabulary = path, Vocabulary.embed(texts, self._load_encoder())
        return self._vocabulary[1]
