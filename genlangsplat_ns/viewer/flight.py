"""Places and animates the viewer's camera."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from viser import ClientHandle, ViserServer
from viser.transforms import SO3

FLIGHT_SECONDS = 0.6
FRAMES = 18

DISTANCE_PER_SIZE = 2.5
"""Final distance of the camera from an object, as a multiple of the size of the object."""

MIN_DISTANCE = 0.3
"""Minimum distance in scene units; nerfstudio places the cameras of a scene within 1 of the origin."""


def start_at(client: ClientHandle, camera: Cameras) -> None:
    """Shows a browser what one camera of the scene sees."""
    pose = camera.camera_to_worlds.cpu().numpy().astype(np.float64)
    # viser's cameras look along z with y down.
    rotation = SO3.from_matrix(pose[:3, :3]) @ SO3.from_x_radians(np.pi)
    with client.atomic():
        client.camera.position = pose[:3, 3] * VISER_NERFSTUDIO_SCALE_RATIO
        client.camera.wxyz = rotation.wxyz
        client.camera.fov = 2 * float(np.arctan(float(camera.height) / 2 / float(camera.fy)))


def fly_to(server: ViserServer, center: Sequence[float], size: float) -> None:
    """Moves the cameras of all browsers towards an object and turns them to it, without rolling them.

    Center and size of the object are in the coordinate frame of the scene.
    """
    target = np.asarray(center, dtype=np.float64) * VISER_NERFSTUDIO_SCALE_RATIO
    distance = max(DISTANCE_PER_SIZE * size, MIN_DISTANCE) * VISER_NERFSTUDIO_SCALE_RATIO
    for client in server.get_clients().values():
        start, start_look_at = client.camera.position.copy(), client.camera.look_at.copy()
        offset = start - target
        length = float(np.linalg.norm(offset))
        # A camera at the target has no offset direction, so it moves back along its viewing direction.
        if length < 1e-6:
            offset, length = start - start_look_at, float(np.linalg.norm(start - start_look_at))
        goal = target + offset / length * distance
        for fraction in np.linspace(0.0, 1.0, FRAMES + 1)[1:]:
            eased = fraction * fraction * (3 - 2 * fraction)
            with client.atomic():
                # Setting the position also moves the look-at point, so the look-at point is set second.
                client.camera.position = start + eased * (goal - start)
                client.camera.look_at = start_look_at + eased * (target - start_look_at)
            client.flush()
            time.sleep(FLIGHT_SECONDS / FRAMES)
