"""`gen-langsplat compress`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.commands.run_settings import StoredRunSettings
from genlangsplat_ns.utils.console import CONSOLE

if TYPE_CHECKING:
    from genlangsplat_ns.scene.compression import CompressedRun, CompressionLoss


@dataclass(frozen=True, kw_only=True)
class Compress(StoredRunSettings):
    """Write a copy of a run with compressed latents, and print the sizes and the loss; the run is not changed."""

    to: Literal["fp16", "int8"] = "int8"
    """Store latents in two bytes per component (fp16) or one (int8). The name of the new folder ends in this word."""
    text: tuple[str, ...] = ()
    """Texts whose masks are compared over the held-out views; default: the texts of the run, or some general texts."""

    def __call__(self) -> None:
        from genlangsplat_ns.run import open_run
        from genlangsplat_ns.scene.compression import compress_run, compressed_folder

        compressed_folder(self.load_config, self.to)
        scene = open_run(self.load_config, data=self.data, photographs=False)
        assert scene.stored is not None, "it was opened from a file"
        done = compress_run(scene, scene.stored, self.to, self.text)
        _print_sizes(done, self.to)
        _print_loss(done.loss)
        CONSOLE.print(f"The compressed run is {escape(str(done.config_path))}.", soft_wrap=True)


def _print_sizes(done: CompressedRun, encoding: str) -> None:
    """Prints the sizes of the run before and after."""
    table = Table("MB", "before", encoding, title=f"This run, {done.shape[0]:,} Gaussians")
    for name, pair in done.bytes.items():
        table.add_row(name, *(f"{size / 1e6:,.2f}" for size in pair))
    CONSOLE.print(table)


def _print_loss(loss: CompressionLoss) -> None:
    """Prints how similar the scene is before and after."""
    table = Table("", "mean", "worst", title="Similarity to the original, 1 = identical")
    for name, agreement in (("cosine of latents", loss.latents), ("cosine of embeddings", loss.embeddings)):
        table.add_row(name, f"{agreement.mean:.6f}", f"{agreement.worst:.6f}")
    if not loss.num_asked:
        CONSOLE.print(table)
        CONSOLE.print("The photographs are not there, so masks and metrics of held-out views were not compared.")
        return
    if loss.overlaps:
        table.add_row("IoU of masks", f"{sum(loss.overlaps) / len(loss.overlaps):.4f}", f"{min(loss.overlaps):.4f}")
    CONSOLE.print(table)
    texts = "; ".join(loss.texts)
    CONSOLE.print(escape(f"Masks of {len(loss.overlaps)} of {loss.num_asked} pairs of view and text ({texts});"))
    CONSOLE.print("in the other pairs, nothing is selected before or after.")
    table = Table("held-out views", "before", "after")
    for name, pair in loss.metrics.items():
        table.add_row(name, *(f"{value:.4f}" for value in pair))
    CONSOLE.print(table)
