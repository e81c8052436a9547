"""Which training view shows a place best."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from genlangsplat_ns.viewer.rays import SceneRay
from genlangsplat_ns.viewer.training_views import TrainingViews


def views_at(*heights: float) -> TrainingViews:
    """Views at these places on the z axis that look down, 90 degrees wide."""
    poses = torch.eye(4)[:3].repeat(len(heights), 1, 1)
    poses[:, 2, 3] = torch.tensor(heights)
    cameras = Cameras(poses, fx=50.0, fy=50.0, cx=50.0, cy=50.0, width=100, height=100)
    return TrainingViews([f"{height:g}.png" for height in heights], cameras)


def far(_: SceneRay) -> float:
    return 1e6


@pytest.mark.parametrize(
    ("heights", "place", "expected"),
    [
        ([5, 2, 9], (0, 0, 0), "2.png"),
        ([5, -2, 9], (0, 0, 0), "5.png"),
        # In the view at 2 the place is at the border of the image.
        ([5, 2, 9], (1.9, 0, 0), "5.png"),
        ([5, 2, 9], (0, -1.9, 0), "5.png"),
        ([2], (3, 0, 0), None),
        ([], (0, 0, 0), None),
    ],
)
def test_the_nearest_view_that_has_the_place_inside_is_best(
    heights: Sequence[float], place: tuple[float, ...], expected: str | None
) -> None:
    assert views_at(*heights).best(torch.tensor(place, dtype=torch.float32), far) == expected


def test_a_view_with_something_in_front_is_passed_over() -> None:
    asked: list[SceneRay] = []

    def blocked_below_three(sight: SceneRay) -> float | None:
        asked.append(sight)
        return 0.5 if sight.origin[2] < 3 else 5.0

    assert views_at(2, 5, 9).best(torch.zeros(3), blocked_below_three) == "5.png"
    assert [sight.origin for sight in asked] == [(0.0, 0.0, 2.0), (0.0, 0.0, 5.0)]
    assert asked[0].direction == (0.0, 0.0, -2.0)


def test_a_place_that_is_hidden_from_all_has_the_nearest_view() -> None:
    assert views_at(5, 2).best(torch.zeros(3), lambda sight: None) == "2.png"
