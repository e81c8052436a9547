"""The viewer's language panel: a text box, and the query it stands for."""

from __future__ import annotations

from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerDropdown, ViewerSlider, ViewerText
from torch import nn

from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import load_encoder
from genlangsplat_ns.language.query import LEVEL_RULES, EmbeddedQuery, TextQuery, embed_query
from genlangsplat_ns.language.relevancy import DEFAULT_NEGATIVES


class LanguageControls(nn.Module):
    """Text box, negatives, level and threshold, in a folder of their own.

    nerfstudio finds viewer elements on modules only, hence the base class; it holds no weights. The encoder is loaded
    with the first question and belongs to no module, so that no checkpoint carries it.
    """

    def __init__(self, encoder_name: str, texts: str = "") -> None:
        super().__init__()
        self.encoder_name = encoder_name
        self._embedded: EmbeddedQuery | None = None
        self._pending = texts
        # The viewer sorts elements by attribute name.
        self.a_texts = ViewerText("Texts", texts, hint="What to look for; several texts are separated by semicolons")
        self.b_negatives = ViewerText("Negatives", "; ".join(DEFAULT_NEGATIVES), hint="What the texts compete with")
        self.c_level = ViewerDropdown("Level", TextQuery.level, list(LEVEL_RULES))
        self.d_threshold = ViewerSlider("Threshold", TextQuery.threshold, 0.0, 1.0, 0.01)
        self.e_ask = ViewerButton("Ask", self._ask)

    def _ask(self, _: ViewerButton) -> None:
        """Takes over what stands in the boxes; typing alone changes nothing, so it never waits for the encoder."""
        self._pending = self.a_texts.value
        self._embedded = None

    def query(self) -> EmbeddedQuery | None:
        """The question last asked, embedded; None when there is none or it cannot be understood (said once)."""
        if self._embedded is None and self._pending.strip():
            # The viewer may break off a render at any line, so the pending text goes last: it is then asked again.
            try:
                query = TextQuery(
                    texts=tuple(text for text in self._pending.split(";") if text.strip()),
                    negatives=tuple(self.b_negatives.value.split(";")),
                    level=self.c_level.value,
                    threshold=self.d_threshold.value,
                )
                self._embedded = embed_query(query, load_encoder(self.encoder_name))
            except GenLangSplatError as error:
                CONSOLE.print(f"[red]{error}")
            self._pending = ""
        return self._embedded
