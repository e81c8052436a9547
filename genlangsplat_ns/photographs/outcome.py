"""Which photographs have a camera, and why others have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.prepare import PreparedPhotograph
from genlangsplat_ns.photographs.solver import NamePair, SolvedModel, name_pair
from genlangsplat_ns.utils.json_files import integer_of, list_of, number_of, object_of, text_of

FEW_FEATURES = 100
"""A photograph with fewer features has too little texture."""

FEW_MATCHES = 30
"""COLMAP asks for as many matches with the scene before it places a photograph."""

BLURRED = 0.25
"""A photograph is called blurred below this share of the median sharpness of all."""

SEVERAL_SCENES = 0.25
"""From this size relative to the largest model on, another model is reported as another scene."""


@dataclass(frozen=True)
class Unplaced:
    """A photograph without a camera in the scene."""

    name: str
    reason: str


@dataclass(frozen=True)
class OtherModel:
    """Photographs that have cameras relative to each other, but not to the scene."""

    photographs: int
    example: str


@dataclass(frozen=True)
class Outcome:
    """What became of photographs."""

    photographs: int
    placed: int
    unplaced: tuple[Unplaced, ...]
    others: tuple[OtherModel, ...]
    error: float
    """Mean reprojection error in pixels."""
    points: int
    points_per_photograph: float
    """Number of points that a photograph sees, on average."""

    @property
    def several_scenes(self) -> bool:
        """Whether another model is so large that the photographs seem to show several scenes."""
        return any(other.photographs >= max(3, SEVERAL_SCENES * self.placed) for other in self.others)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {
            **asdict(self),
            **{name: [asdict(row) for row in getattr(self, name)] for name in ("unplaced", "others")},
        }

    @classmethod
    def from_json(cls, values: Any) -> Outcome:
        """Restores what `to_json` returned.

        Raises:
            ValueError: It is something else.
        """
        entries = object_of(values, "the outcome")
        lists = {name: list_of(entries.get(name), name) for name in ("unplaced", "others")}
        rows = {name: [object_of(row, f"an entry of {name}") for row in rows] for name, rows in lists.items()}
        return cls(
            photographs=integer_of(entries.get("photographs"), "photographs"),
            placed=integer_of(entries.get("placed"), "placed"),
            unplaced=tuple(
                Unplaced(text_of(row.get("name"), "name"), text_of(row.get("reason"), "reason"))
                for row in rows["unplaced"]
            ),
            others=tuple(
                OtherModel(integer_of(row.get("photographs"), "photographs"), text_of(row.get("example"), "example"))
                for row in rows["others"]
            ),
            error=number_of(entries.get("error"), "error"),
            points=integer_of(entries.get("points"), "points"),
            points_per_photograph=number_of(entries.get("points_per_photograph"), "points_per_photograph"),
        )


def judge(
    photographs: Sequence[PreparedPhotograph],
    features: Mapping[str, int],
    matched: Mapping[NamePair, int],
    models: Sequence[SolvedModel],
) -> Outcome:
    """Explains the result of a reconstruction.

    Raises:
        GenLangSplatError: No photograph has a camera.
    """
    if not models:
        raise GenLangSplatError(_failure(photographs, features, matched))
    best = models[0]
    placed = {item.name for item in best.photographs}
    elsewhere = {item.name: len(model.photographs) for model in models[1:] for item in model.photographs}
    typical = median(item.sharpness for item in photographs)
    unplaced = [
        Unplaced(item.name, _reason(item, typical, placed, elsewhere, features, matched))
        for item in photographs
        if item.name not in placed
    ]
    seen = sum(item.points for item in best.photographs) / len(best.photographs)
    others = tuple(OtherModel(len(model.photographs), model.photographs[0].name) for model in models[1:])
    return Outcome(
        len(photographs), len(placed), tuple(unplaced), others, best.error, len(best.positions), round(seen, 1)
    )


def _reason(
    photograph: PreparedPhotograph,
    typical: float,
    placed: set[str],
    elsewhere: Mapping[str, int],
    features: Mapping[str, int],
    matched: Mapping[NamePair, int],
) -> str:
    """Returns why a photograph has no camera in the scene."""
    share = photograph.sharpness / typical if typical else 1.0
    blurred = f"blurred: {share:.0%} of the usual sharpness" if share < BLURRED else ""
    count = features.get(photograph.name, 0)
    best = max((matched.get(name_pair(photograph.name, other), 0) for other in placed), default=0)
    if count < FEW_FEATURES:
        return blurred or f"too few features ({count}): no texture"
    if photograph.name in elsewhere:
        return f"in another model of {elsewhere[photograph.name]} photographs"
    if best < FEW_MATCHES:
        reason = f"too few matches (at most {best} with a photograph of the scene)"
        return f"{reason}, {blurred}" if blurred else reason
    return blurred or f"its {best} matches fit no position of the camera"


def _failure(
    photographs: Sequence[PreparedPhotograph], features: Mapping[str, int], matched: Mapping[NamePair, int]
) -> str:
    """Returns the message that no photograph has a camera, with the probable cause."""
    usual = median(features.get(item.name, 0) for item in photographs)
    strong = sum(count >= FEW_MATCHES for count in matched.values())
    found = (
        f"None of the {len(photographs)} photographs could be given a camera: they have {usual:.0f} features in the "
        f"middle, and {strong} pairs match. "
    )
    if usual < FEW_FEATURES:
        return f"{found}They are blurred or show no texture. Take sharp photographs of things with texture."
    if not strong:
        return f"{found}No two show the same things. Take photographs that overlap by more than half."
    return (
        f"{found}They are equal, or taken from one place, which gives no depth. Walk around the scene while you take "
        "them."
    )
