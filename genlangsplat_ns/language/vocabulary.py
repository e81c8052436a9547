"""Vocabularies: lists of texts that name the content of a scene by the nearest embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextEncoder

MAX_TEXTS = 100_000
"""Maximum number of texts in a vocabulary; embedding 50,000 takes a minute."""

COMMON_THINGS = (
    "person, face, hand, hair, clothes, shoe, hat, bag, animal, dog, cat, bird, fish, fox, horse, toy, teddy "
    "bear, plant, tree, flower, leaf, grass, fruit, apple, banana, orange, vegetable, bread, cake, cup, mug, "
    "glass, bottle, bowl, plate, knife, fork, spoon, pot, pan, teapot, food, table, chair, sofa, bed, shelf, "
    "cupboard, drawer, desk, lamp, light, mirror, picture, picture frame, clock, vase, basket, box, book, "
    "paper, pen, keyboard, computer, screen, telephone, camera, television, loudspeaker, cable, machine, tool, "
    "hammer, screw, wheel, bicycle, motorcycle, car, bus, lorry, train, boat, aeroplane, road, path, house, "
    "building, roof, brick, wall, door, window, curtain, carpet, blanket, pillow, towel, floor, ceiling, "
    "stairs, fence, stone, rock, sand, earth, wood, metal, plastic, sky, cloud, sun, water, sea, river, "
    "mountain, snow, sink, tap, stove, oven, refrigerator, bath, toilet, ball, musical instrument"
)
"""The default vocabulary."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Texts and their unit embeddings."""

    texts: tuple[str, ...]
    embeddings: Float[Tensor, "num_texts embedding_dim"]

    @classmethod
    def embed(cls, texts: Sequence[str], encoder: TextEncoder) -> Vocabulary:
        """Embeds the texts of a vocabulary."""
        return cls(tuple(texts), encoder.encode_texts(texts))

    def nearest(self, embeddings: Float[Tensor, "num_levels embedding_dim"], count: int) -> list[tuple[str, float]]:
        """Returns the texts nearest to any of the unit embeddings, with their cosines, in descending order."""
        cosines = (self.embeddings.to(embeddings) @ embeddings.T).amax(dim=1)
        values, rows = cosines.topk(min(count, len(self.texts)))
        return [(self.texts[row], value) for row, value in zip(rows.tolist(), values.tolist(), strict=True)]


def read_vocabulary(path: Path | None) -> tuple[str, ...]:
    """Reads a UTF-8 file with one text per line, without blank lines and duplicates; None for `COMMON_THINGS`.

    Raises:
        GenLangSplatError: The file cannot be read, is not UTF-8, or has no text or too many.
    """
    if path is None:
        return tuple(COMMON_THINGS.split(", "))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GenLangSplatError(
            f"The vocabulary {path} cannot be read ({error}). Give a UTF-8 text file with one text per line."
        ) from error
    texts = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not 0 < len(texts) <= MAX_TEXTS:
        raise GenLangSplatError(
            f"The vocabulary {path} has {len(texts):,} texts, expected 1 to {MAX_TEXTS:,}, one per line. Give "
            "another file."
        )
    return texts
