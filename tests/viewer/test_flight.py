"""The viewer's camera is placed where a camera of the scene is."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from viser import ClientHandle
from viser.transforms import SO3

from genlangsplat_ns.viewer.flight import start_at


def test_a_browser_sees_what_the_camera_sees() -> None:
    # It stands at (1, 2, 3), looks along y, and has z up.
    pose = torch.tensor([[1.0, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3]])
    camera = Cameras(pose[None], fx=80.0, fy=50.0, cx=80.0, cy=50.0, width=160, height=100)[0]
    client: Any = create_autospec(ClientHandle, instance=True)
    client.camera, client.atomic = SimpleNamespace(), nullcontext
    start_at(client, camera)
    axes = SO3(np.asarray(client.camera.wxyz)).as_matrix()
    assert np.allclose(client.camera.position, np.array([1, 2, 3]) * VISER_NERFSTUDIO_SCALE_RATIO)
    # viser's cameras look along z with y down.
    assert np.allclose(axes[:, 2], [0, 1, 0], atol=1e-6) and np.allclose(axes[:, 1], [0, 0, -1], atol=1e-6)
    assert math.isclose(client.camera.fov, math.pi / 2, rel_tol=1e-6)
