"""The viewer's camera in flight."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from viser import ViserServer

FLIGHT_SECONDS = 0.6
FRAMES = 18

ROOM = 2.5
"""The camera stays so many times the size of a thing away from it."""

NEAREST = 0.3
"""Nor does it come nearer than this, in units of the scene, whose cameras nerfstudio puts within 1 of the middle."""


def fly_to(server: ViserServer, center: Sequence[float], size: float) -> None:
    """Moves the cameras of all browsers towards a place until it fills the picture, without turning them over.

    Args:
        server: The viewer's server.
        center: The place, in the frame of the scene.
        size: The extent of what is there.
    """
    target = np.asarray(center, dtype=np.float64) * VISER_NERFSTUDIO_SCALE_RATIO
    distance = max(ROOM * size, NEAREST) * VISER_NERFSTUDIO_SCALE_RATIO
    for client in server.get_clients().values():
        start, looked = client.camera.position.copy(), client.camera.look_at.copy()
        away = start - target
        length = float(np.linalg.norm(away))
        # A camera in the very place has no direction to leave it by; it backs off from what it looks at.
        if length < 1e-6:
            away, length = start - looked, float(np.linalg.norm(start - looked))
        goal = target + away / length * distance
        for part in np.linspace(0.0, 1.0, FRAMES + 1)[1:]:
            eased = part * part * (3 - 2 * part)
            with client.atomic():
                # Setting the position carries the point looked at along, so that comes second.
                client.camera.position = start + eased * (goal - start)
                client.camera.look_at = looked + eased * (target - looked)
            client.flush()
            time.sleep(FLIGHT_SECONDS / FRAMES)
