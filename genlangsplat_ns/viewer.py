"""The viewer's language panel: a text box, and the query it stands for."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread, current_thread

from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerDropdown, ViewerSlider, ViewerText
from torch import nn

from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ImageTextEncoder
from genlangsplat_ns.language.query import LEVEL_RULES, EmbeddedQuery, TextQuery, embed_query
from genlangsplat_ns.language.relevancy import DEFAULT_NEGATIVES


class LanguageControls(nn.Module):
    """Text box, negatives, level and threshold, in a folder of their own.

    nerfstudio finds viewer elements on modules only, hence the base class; it holds no weights. The encoder is loaded
    with the first question and belongs to no module, so that no checkpoint carries it.

    Texts are embedded in a thread of their own. The viewer's render thread is traced, which makes loading the encoder
    ten times slower there, and it is broken off whenever the camera moves, which would begin the loading again and
    again. A render therefore only reads what is ready, and takes no lock: broken off, it would never give it back.
    """

    def __init__(self, load_encoder: Callable[[], ImageTextEncoder], texts: str = "") -> None:
        super().__init__()
        self._load_encoder = load_encoder
        self._embedded: EmbeddedQuery | None = None
        self._embedding: Thread | None = None
        # The viewer sorts elements by attribute name.
        self.a_texts = ViewerText("Texts", texts, hint="What to look for; several texts are separated by semicolons")
        self.b_negatives = ViewerText("Negatives", "; ".join(DEFAULT_NEGATIVES), hint="What the texts compete with")
        self.c_level = ViewerDropdown("Level", TextQuery.level, list(LEVEL_RULES))
        self.d_threshold = ViewerSlider("Threshold", TextQuery.threshold, 0.0, 1.0, 0.01)
        self.e_ask = ViewerButton("Ask", self.ask)
        self.f_answer = ViewerText("Answer", "", disabled=True, hint="What the pictures answer")

    def ask(self, _: ViewerButton | None = None) -> None:
        """Takes over what stands in the boxes and begins to embed it; typing alone changes nothing."""
        settings = (self.a_texts.value, self.b_negatives.value, self.c_level.value, self.d_threshold.value)
        self._embedding = Thread(target=self._embed, args=settings)
        self._embedding.start()

    def _embed(self, texts: str, negatives: str, level: str, threshold: float) -> None:
        """Embeds a question and puts it up, unless another one was asked meanwhile; what is wrong with it is said."""
        self.f_answer.value = "embedding the texts ..."
        embedded, answer = None, ""
        if texts.strip():
            try:
                query = TextQuery(
                    texts=tuple(text for text in texts.split(";") if text.strip()),
                    negatives=tuple(negatives.split(";")),
                    level=level,
                    threshold=threshold,
                )
                embedded = embed_query(query, self._load_encoder())
                answer = "; ".join(query.texts)
            except GenLangSplatError as error:
                CONSOLE.print(f"[red]{error}")
                answer = str(error)
        if current_thread() is self._embedding:
            self._embedded = embedded
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
