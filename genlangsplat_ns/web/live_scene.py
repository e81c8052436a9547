"""A scene behind a running page: everything is in memory, and one thread at a time asks the model."""

from __future__ import annotations

import json
import logging
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import embed_texts
from genlangsplat_ns.language.selection import GaussianSelection
from genlangsplat_ns.language.settings import QuerySettings, SelectionSettings
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.web.answers import TextAnswers
from genlangsplat_ns.web.clicks import Clicks
from genlangsplat_ns.web.page_scene import PageScene, describe_page, thumbnail

LOGGER = logging.getLogger(__name__)


class LiveScene:
    """What a running page asks for.

    The file of the Gaussians, the encoder and the decoded Gaussians are prepared in the background from the start, so
    that the first text is answered soon.

    Args:
        scene: The opened run.
        query: How texts are scored; the page starts with it.
        selection: How Gaussians are selected.
        texts: The texts that the page asks when it opens.
        config: The config.yml in the commands that the page shows.
        options: Further options in these commands.
    """

    def __init__(
        self,
        scene: LanguageScene,
        query: QuerySettings,
        selection: SelectionSettings,
        texts: tuple[str, ...] = (),
        config: str = "",
        options: tuple[str, ...] = (),
    ) -> None:
        self.scene = scene
        self.page = PageScene.of(scene)
        self._stopped = Event()
        self.answers = TextAnswers(self.page, stopped=self._stopped.is_set)
        self.clicks = Clicks(self.page)
        self.views = self.page.views()
        document = describe_page(self.page, query, selection, texts, config, options)
        self.description = json.dumps(document, ensure_ascii=False).encode()
        self._thumbnails: dict[int, bytes] = {}
        self.model_thread = ThreadPoolExecutor(1, "model")
        self.file_thread = ThreadPoolExecutor(1, "files")
        self._splats: Future[bytes] = self.file_thread.submit(self.page.splats)
        self.model_thread.submit(partial(self._prepare, query))

    def _prepare(self, query: QuerySettings) -> None:
        try:
            embed_texts(query.negatives, self.scene.encoder, query.prompts)
        except GenLangSplatError as error:
            # The first text has the same error, which the page shows.
            LOGGER.error("%s", error)
            return
        self.scene.field.decode_all(self._stopped.is_set)

    def splats(self) -> bytes:
        """Returns the Gaussians as an SPZ file; waits for it while it is made."""
        return self._splats.result()

    def thumbnail(self, number: int) -> bytes:
        """Returns the thumbnail of a view.

        Raises:
            GenLangSplatError: There is no such view, or its photograph is gone or damaged.
        """
        if not 0 <= number < len(self.views):
            raise GenLangSplatError(
                f"Found the view {number}, expected 0 to {len(self.views) - 1}. Open the page again."
            )
        if number not in self._thumbnails:
            self._thumbnails[number] = thumbnail(self.scene, self.views[number])
        return self._thumbnails[number]

    def export(self, bits: bytes, ending: str) -> bytes:
        """Returns a file of the Gaussians of a packed mask, in the format that the ending names.

        Raises:
            GenLangSplatError: The mask selects nothing that can be written.
        """
        mask = self.page.mask_of(bits)
        if not bool(mask.any()):
            raise GenLangSplatError("Found an empty selection, expected at least one Gaussian. Lower the threshold.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"selection.{ending}"
            self.scene.model.tools.export(GaussianSelection(mask, self.scene.field.means.cpu()), path)
            return path.read_bytes()

    def stop(self) -> None:
        """Ends the work in the background; what has begun is finished first."""
        self._stopped.set()
        for thread in (self.model_thread, self.file_thread):
            thread.shutdown(wait=False, cancel_futures=True)
