"""`gen-langsplat evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.markup import escape
from rich.table import Column, Table

from genlangsplat_ns.commands.run_settings import StoredRunSettings
from genlangsplat_ns.language.settings import DecoderName
from genlangsplat_ns.scene.settings import EvaluationSettings
from genlangsplat_ns.utils.console import CONSOLE

if TYPE_CHECKING:
    from genlangsplat_ns.scene.evaluation import SceneEvaluation


@dataclass(frozen=True, kw_only=True)
class Evaluate(StoredRunSettings):
    """Score a run against labels (COCO, labelme, LERF-OVS, 3D-OVS, masks): tables, evaluation.json, report.html."""

    output_dir: Path = Path("evaluation")
    """Folder for evaluation.json and report.html."""
    decoder: DecoderName | Literal["both"] | None = None
    """Decoder of the latents: the scene memory, the autoencoder alone (the paper), or both for a comparison; None for
    the decoder of the run."""
    settings: tyro.conf.OmitArgPrefixes[EvaluationSettings] = field(default_factory=EvaluationSettings)
    """How the run is scored."""

    def __call__(self) -> None:
        from genlangsplat_ns.evaluation.protocols import named_protocols
        from genlangsplat_ns.run import open_run
        from genlangsplat_ns.scene.evaluation import evaluate_scene

        named_protocols(self.settings.protocol)
        decoder: DecoderName | None = "memory" if self.decoder == "both" else self.decoder
        # If the memory is fitted again anyway, the stored one may be missing or damaged.
        scene = open_run(self.load_config, "autoencoder" if self.settings.holdout_labeled else decoder, data=self.data)
        _print(evaluate_scene(scene, self.output_dir, self.settings, decoder, self.decoder == "both"))


def _print(done: SceneEvaluation) -> None:
    """Prints the means of every protocol and split, and published scores."""
    from genlangsplat_ns.evaluation.page import percent
    from genlangsplat_ns.evaluation.published import is_published_scene
    from genlangsplat_ns.scene.evaluation import SPLIT_TITLES, UNCOUNTED_NOTE

    document = done.document
    title = f"{document['scene']}, micro / macro means"
    means = Table(Column("protocol", no_wrap=True), "views", "decoder", "pairs", *_MEANS, title=title)
    for protocol, split, (decoder, evaluation) in product(done.protocols, SPLIT_TITLES, done.by_decoder.items()):
        summary = evaluation.summary(protocol.name, split)
        if summary["pairs"]:
            cells = [
                f"{percent(summary['micro'][name])} / {percent(summary['macro'][name])}" for name in _MEANS.values()
            ]
            means.add_row(protocol.name, split, decoder, str(summary["pairs"]), *cells)
    CONSOLE.print(means)
    facts = document["labels"]
    if facts["in_training"]:
        CONSOLE.print(f"{len(facts['in_training'])} of {len(facts['frames'])} labeled views are training views.")
    if facts["masked_views"]:
        CONSOLE.print(f"{len(facts['masked_views'])} labeled views have masks. {UNCOUNTED_NOTE}")
    for name, words in {
        "no_such_view": "labeled views are not in this scene",
        "not_in_view": "labels are outside their view",
    }.items():
        if facts[name]:
            CONSOLE.print(f"[yellow]{len(facts[name])} {words}: {escape(', '.join(facts[name]))}[/yellow]")
    if is_published_scene(document["labels"]["kind"], document["scene"]):
        published = Table("method", "scene", *_MEANS, "source", title="Published, not reproduced")
        for score in done.published:
            cells = [percent(getattr(score, name)) for name in _MEANS.values()]
            published.add_row(f"{score.method} ({score.family})", score.scene, *cells, score.source)
        CONSOLE.print(published)


_MEANS = {"localization": "localization", "mean IoU": "miou", "IoU > 0.25": "acc_iou25"}
"""Columns of the tables, and the keys of their values."""
