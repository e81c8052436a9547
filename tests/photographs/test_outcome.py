"""Why photographs have no camera, in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.outcome import OtherModel, Outcome, Unplaced, judge
from tests.photographs.fakes import prepared, solved

PLACED = [f"{number}.jpg" for number in range(8)]


def outcome(sharpness: float = 100.0, features: int = 500, matches: int = 0, elsewhere: int = 0) -> Outcome:
    """What is said about eight photographs with a camera and one, x.jpg, without."""
    photographs = [*(prepared(name) for name in PLACED), prepared("x.jpg", sharpness)]
    models = [solved(PLACED)]
    if elsewhere:
        models.append(solved(["x.jpg", *(f"y{number}.jpg" for number in range(elsewhere - 1))]))
    counts = {**dict.fromkeys(PLACED, 500), "x.jpg": features}
    return judge(photographs, counts, {("3.jpg", "x.jpg"): matches}, models)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"features": 20, "sharpness": 5.0}, "blurred: 5% of the usual sharpness"),
        ({"features": 20}, "too few features (20): no texture"),
        ({"matches": 12}, "too few matches (at most 12 with a photograph of the scene)"),
        (
            {"matches": 12, "sharpness": 5.0},
            "too few matches (at most 12 with a photograph of the scene), blurred: 5% of the usual sharpness",
        ),
        ({"matches": 80}, "its 80 matches fit no position of the camera"),
        ({"elsewhere": 4}, "in another model of 4 photographs"),
    ],
)
def test_reasons(case: dict[str, float], reason: str) -> None:
    assert [(item.name, item.reason) for item in outcome(**case).unplaced] == [("x.jpg", reason)]


def test_the_figures_are_those_of_the_largest_model() -> None:
    found = outcome(elsewhere=4)
    assert (found.photographs, found.placed, found.points, found.points_per_photograph) == (9, 8, 50, 50)
    assert [(other.photographs, other.example) for other in found.others] == [(4, "x.jpg")]
    assert Outcome.from_json(found.to_json()) == found


def test_a_large_second_model_is_another_scene() -> None:
    assert outcome(elsewhere=4).several_scenes
    assert not outcome(elsewhere=2).several_scenes and not outcome().several_scenes


@pytest.mark.parametrize(
    ("features", "matches", "cause"),
    [
        (20, 0, "blurred or show no texture"),
        (500, 3, "No two show the same things"),
        (500, 300, "taken from one place"),
    ],
)
def test_a_failure_names_its_probable_cause(features: int, matches: int, cause: str) -> None:
    photographs = [prepared(name) for name in PLACED]
    with pytest.raises(GenLangSplatError, match=f"None of the 8 photographs .* {cause}"):
        judge(photographs, dict.fromkeys(PLACED, features), {("0.jpg", "1.jpg"): matches}, [])


@pytest.mark.parametrize(
    "damage",
    [
        None,
        [],
        {},
        {"photographs": "9"},
        {"unplaced": [{"name": 1, "reason": ""}]},
        {"others": None},
        {"error": "much"},
    ],
)
def test_a_damaged_outcome_is_a_value_error(damage: Any) -> None:
    values = Outcome(9, 8, (Unplaced("a.jpg", "it is blurred"),), (OtherModel(3, "b.jpg"),), 0.7, 90, 11.0).to_json()
    assert Outcome.from_json(json.loads(json.dumps(values))).to_json() == values
    with pytest.raises(ValueError, match="expected"):
        Outcome.from_json({**values, **damage} if isinstance(damage, dict) and damage else damage)
