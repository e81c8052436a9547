"""The mode `gaussian` of a query: every Gaussian is scored once per text, and the score is splatted like a colour.

Decoding is the expensive part and knows nothing of the text. So it is done once for a scene, for one representative of
all latents that lie close together, and what it gives is kept: a new text then costs one product of matrices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from genlangsplat_ns.cpu_products import fast_products
from genlangsplat_ns.language.decoding import Decode, LinearDecode
from genlangsplat_ns.language.query import CHUNK_PIXELS, EMPTY_NORM, GPU_CHUNK_PIXELS, EmbeddedQuery, choose_level

CELL = 0.2
"""Side of the cells, in each dimension of the unit latents, whose latents are decoded as one: their mean."""

OPAQUE = 0.1
"""The rule `auto` takes the level by the peak of the Gaussians that are at least so opaque."""

SCORED_ROWS = 1 << 16
"""Kept embeddings compared with a text at a time."""


class GaussianEmbeddings:
    """What the latents of a scene decode to, in half precision, one row for all that lie in one cell.

    The viewer breaks a frame off between two lines of Python. What is decoded by then stays, and the next frame goes
    on from there.

    Args:
        latents: Latents of the Gaussians, of any length; those shorter than `EMPTY_NORM` (no region ever saw the
            Gaussian) score 0 with every text.
        decode: Maps unit latents to embeddings. A `LinearDecode` is exact: nothing is gathered into cells.
        cell: Side of the cells; 0 decodes every latent by itself.
    """

    def __init__(
        self, latents: Float[Tensor, "num_gaussians levels latent_dim"], decode: Decode, cell: float = CELL
    ) -> None:
        rows = latents.flatten(0, 1)
        filled = rows.norm(dim=-1) > EMPTY_NORM
        unit = F.normalize(rows[filled], dim=-1)
        self._basis: Tensor | None = None
        if isinstance(decode, LinearDecode):
            decode, self._basis = decode.compact()
            cell = 0.0
        representatives, cells = _gather_in_cells(unit, cell)
        self._decode, self._representatives = decode, representatives
        # The row behind all others belongs to the Gaussians without a latent.
        self._rows = torch.full(filled.shape, len(representatives), dtype=torch.int32, device=rows.device)
        self._rows[filled] = cells
        self._rows = self._rows.unflatten(0, latents.shape[:2])
        self._embeddings: Tensor | None = None
        self._done = 0

    @property
    def num_decoded(self) -> int:
        """How many rows are decoded in all."""
        return len(self._representatives)

    @torch.no_grad()
    def prepare(self) -> None:
        """Decodes what is not decoded yet."""
        chunk = CHUNK_PIXELS if self._representatives.device.type == "cpu" else GPU_CHUNK_PIXELS
        while self._done < len(self._representatives):
            rows = slice(self._done, self._done + chunk)
            with fast_products():
                decoded = F.normalize(self._decode(self._representatives[rows]), dim=-1).half()
            if self._embeddings is None:
                self._embeddings = decoded.new_empty(len(self._representatives), decoded.shape[1])
            self._embeddings[rows] = decoded
            self._done = min(rows.stop, len(self._representatives))

    @torch.no_grad()
    def score(self, query: EmbeddedQuery) -> Float[Tensor, "num_gaussians levels num_texts"]:
        """Relevancy of every Gaussian and level to each text; 0 where no region was ever seen."""
        self.prepare()
        query = query if self._basis is None else query.projected(self._basis)
        scores = self._representatives.new_zeros(len(self._representatives) + 1, len(query.query.texts))
        if self._embeddings is not None:
            for start in range(0, len(self._embeddings), SCORED_ROWS):
                embeddings = self._embeddings[start : start + SCORED_ROWS].float()
                scores[start : start + len(embeddings)] = query.score(embeddings)
        return scores[self._rows]


def _gather_in_cells(
    unit: Float[Tensor, "count latent_dim"], cell: float
) -> tuple[Float[Tensor, "num_cells latent_dim"], Int32[Tensor, " count"]]:
    """Means of the unit latents in each cell of a grid, and the cell of each."""
    if cell == 0.0:
        return unit, torch.arange(len(unit), dtype=torch.int32, device=unit.device)
    # A polynomial in the cell's coordinates that wraps around names the cell; two cells with one name are as good as
    # impossible among millions.
    names = torch.zeros(len(unit), dtype=torch.int64, device=unit.device)
    for coordinates in unit.T:
        names = names * 6364136223846793005 + (coordinates / cell).round().long()
    _, cells = names.unique(return_inverse=True)
    count = int(cells.max()) + 1 if len(cells) else 0
    means = unit.new_zeros(count, unit.shape[1]).index_add_(0, cells, unit)
    return F.normalize(means, dim=-1), cells.int()


def join_levels(
    scores: Float[Tensor, "num_gaussians levels num_texts"], opacities: Float[Tensor, " num_gaussians"], level: str
) -> tuple[Float[Tensor, "num_gaussians num_texts"], tuple[str, ...]]:
    """Makes one score per Gaussian and text of the levels' scores; the level is the same in all views.

    Args:
        scores: Relevancy of each level, 0 where the level saw nothing.
        opacities: Opacities in 0..1; `auto` looks for the peak among Gaussians that are at least `OPAQUE`.
        level: As in `choose_level`.

    Returns:
        The scores, and for each text the level or rule they came from.
    """
    opaque = opacities >= OPAQUE
    joined, names = [], []
    for levels in scores.permute(2, 1, 0):
        name = choose_level(levels[:, opaque], level).name if bool(opaque.any()) else level
        joined.append(choose_level(levels, name).map)
        names.append(name)
    return torch.stack(joined, dim=-1), tuple(names)


class SeenScores:
    """Scores, with what must be splatted beside them to divide them by the opacity of the Gaussians that were seen.

    A score of exactly 0 is that of a Gaussian no region was ever seen on. It says nothing, so it must not pull down
    what others in its pixel say. Scores that all Gaussians have are divided by the opacity, which is drawn anyway.

    Args:
        scores: The scores.

    Attributes:
        channels: What to splat: the scores, and behind them 1 where a Gaussian was seen. All scores that were seen on
            the same Gaussians share one such column, and those seen on all need none.
    """

    channels: Float[Tensor, "num_gaussians num_channels"]

    def __init__(self, scores: Float[Tensor, "num_gaussians num_scores"]) -> None:
        sets: list[Tensor] = []
        self._places: list[int] = []
        for seen in (scores > 0).T.contiguous():
            if bool(seen.all()):
                self._places.append(-1)
                continue
            known = [place for place, other in enumerate(sets) if torch.equal(seen, other)]
            if not known:
                sets.append(seen)
            self._places.append(known[0] if known else len(sets) - 1)
        self.channels = torch.cat([scores, torch.stack(sets, dim=-1).to(scores)], dim=-1) if sets else scores

    def divide(
        self, splatted: Float[Tensor, "height width num_channels"], alphas: Float[Tensor, "height width 1"]
    ) -> Float[Tensor, "height width num_scores"]:
        """Makes relevancy of what was splatted; exactly 0 where next to nothing of what was seen is shown.

        Args:
            splatted: `channels`, composited over black.
            alphas: The opacity of all Gaussians.
        """
        count = len(self._places)
        opacities = torch.cat([splatted[..., count:], alphas], dim=-1)
        # Infinity divides to zero, in one pass less than a choice afterwards.
        divisors = opacities.masked_fill_(opacities <= EMPTY_NORM, float("inf"))
        if divisors.shape[-1] > 1:
            divisors = divisors[..., self._places]
        return (splatted[..., :count] / divisors).clamp_(max=1.0)
