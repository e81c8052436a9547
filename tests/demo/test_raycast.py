"""The ray caster against exact geometry and a ray-by-ray reference."""

from __future__ import annotations

import numpy as np
import pytest

from genlangsplat_ns.demo.raycast import FIRST_RAY, SUPERSAMPLING, Pinhole, Surface, look_at, render, sample


def plain(color, size=4):
    return np.broadcast_to(np.asarray(color, np.float32), (size, size, 3)).copy()


def upright(x, y, z, width, height, color, **kwargs):
    """A rectangle that faces -y."""
    return Surface(
        np.array([x, y, z + height]), np.array([width, 0.0, 0.0]), np.array([0.0, 0.0, -height]), plain(color), **kwargs
    )


CAMERA = Pinhole(40, 30, focal=30.0)
POSE = look_at(np.array([0.0, -4.0, 1.0]), np.array([0.0, 0.0, 1.0]))


def cast_by_hand(surfaces, pose, camera):
    """Nearest hit of every ray, one at a time: index and distance along the axis."""
    scale = SUPERSAMPLING
    index = np.full((camera.height * scale, camera.width * scale), -1)
    depth = np.full(index.shape, np.inf)
    for row in range(index.shape[0]):
        for column in range(index.shape[1]):
            x = ((column + 0.5) / scale - camera.width / 2) / camera.focal
            y = ((row + 0.5) / scale - camera.height / 2) / camera.focal
            direction, origin = pose[:3, :3] @ [x, -y, -1.0], pose[:3, 3]
            for number, surface in enumerate(surfaces):
                normal = np.cross(surface.down, surface.right)
                slope = normal @ direction
                if slope >= 0:
                    continue
                distance = normal @ (surface.corner - origin) / slope
                place = origin + distance * direction - surface.corner
                a = place @ surface.right / (surface.right @ surface.right)
                b = place @ surface.down / (surface.down @ surface.down)
                if distance > 0 and 0 <= a <= 1 and 0 <= b <= 1 and distance < depth[row, column]:
                    index[row, column], depth[row, column] = number, distance
    return index, depth


def test_equals_the_ray_by_ray_reference():
    rng = np.random.default_rng(0)
    surfaces = []
    for number in range(8):
        right = rng.normal(size=3)
        down = np.cross(right, rng.normal(size=3))
        corner = rng.uniform([-1, -1, 0], [1, 1, 2])
        surfaces.append(Surface(corner, right, down / 2, plain(rng.random(3)), label=number))
    pose = look_at(np.array([0.5, -3.0, 1.6]), np.array([0.0, 0.0, 1.0]))
    index, depth = cast_by_hand(surfaces, pose, CAMERA)
    rendering = render(surfaces, pose, CAMERA, num_objects=8)
    assert len(np.unique(index)) > 3
    coverage = np.stack([(index == n).reshape(30, 2, 40, 2).mean(axis=(1, 3)) for n in range(8)])
    assert np.mean(np.abs(rendering.coverage - coverage) > 1e-6) < 0.002, "Rays exactly on an edge may hit or miss."
    agree = np.isfinite(depth[::2, ::2]) == np.isfinite(rendering.depth)
    assert agree.mean() > 0.998
    both = agree & np.isfinite(rendering.depth)
    assert np.mean(np.abs(rendering.depth[both] / depth[::2, ::2][both] - 1) < 1e-4) > 0.998


def test_the_nearer_surface_hides_the_farther_whatever_their_order():
    near = upright(-0.5, -1.0, 0.5, 1.0, 1.0, (1, 0, 0), label=0)
    far = upright(-2.0, 1.0, 0.0, 4.0, 2.0, (0, 1, 0), label=1)
    for surfaces in ([near, far], [far, near]):
        rendering = render(surfaces, POSE, CAMERA, num_objects=2)
        np.testing.assert_allclose(rendering.rgb[15, 20], [1, 0, 0])
        assert rendering.depth[15, 20] == pytest.approx(3.0)
        np.testing.assert_allclose(rendering.rgb[15, 8], [0, 1, 0])
        assert rendering.depth[15, 8] == pytest.approx(5.0)


def test_a_rectangle_covers_the_pixels_that_projection_says():
    rendering = render([upright(-0.5, 0.0, 0.5, 1.0, 1.0, (1, 1, 1), label=0)], POSE, CAMERA, num_objects=1)
    # One meter at four meters with a focal length of 30 pixels is 7.5 pixels, centered at (20, 15).
    assert rendering.coverage.sum() == pytest.approx(7.5**2, rel=0.15)
    assert rendering.extent[0] == pytest.approx(7.5**2)
    rows, columns = np.nonzero(rendering.coverage[0])
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (16, 23, 11, 18)
    assert np.isinf(rendering.depth[0, 0]) and not rendering.rgb[0, 0].any()


def test_the_extent_includes_hidden_and_clipped_parts():
    near = upright(-0.5, -1.0, 0.5, 1.0, 1.0, (1, 0, 0), label=0)
    hidden = upright(-0.2, 1.0, 0.8, 0.4, 0.4, (0, 1, 0), label=1)
    cut = upright(-9.0, 0.0, 0.5, 4.0, 1.0, (0, 0, 1), label=2)
    rendering = render([near, hidden, cut], POSE, CAMERA, num_objects=3)
    np.testing.assert_allclose(rendering.extent, [10.0**2, (0.4 * 6) ** 2, 30 * 7.5])
    assert rendering.coverage[1].sum() == 0 and rendering.coverage[2].sum() == 0


def test_back_faces_and_surfaces_behind_the_camera_are_invisible():
    surface = upright(-0.5, 0.0, 0.5, 1.0, 1.0, (1, 1, 1))
    behind = look_at(np.array([0.0, 4.0, 1.0]), np.array([0.0, 0.0, 1.0]))
    away = look_at(np.array([0.0, -4.0, 1.0]), np.array([0.0, -8.0, 1.0]))
    for pose in (behind, away):
        assert not render([surface], pose, CAMERA, num_objects=0 + 1).rgb.any()


def test_the_window_is_the_labeled_part():
    surface = upright(-1.0, 0.0, 0.0, 2.0, 2.0, (1, 1, 1), label=0, window=(0.5, 0.0, 1.0, 0.5))
    coverage = render([surface], POSE, CAMERA, num_objects=1).coverage[0]
    rows, columns = np.nonzero(coverage == 1)
    assert columns.min() == 20 and rows.max() == 14, "The upper right quarter."


def test_textures_are_upright_and_not_mirrored():
    texture = plain((0, 0, 0), size=8)
    texture[:4, :4] = (1, 0, 0)
    surface = Surface(np.array([-1.0, 0.0, 2.0]), np.array([2.0, 0, 0]), np.array([0, 0, -2.0]), texture)
    rgb = render([surface], POSE, CAMERA, num_objects=1).rgb
    assert rgb[10, 15, 0] > 0.9 and rgb[10, 25, 0] < 0.1 and rgb[20, 15, 0] < 0.1


def test_bilinear_lookup_worked_example():
    texture = np.zeros((2, 2, 3), np.float32)
    texture[0, 1] = 1
    a, b = np.array([0.25, 0.75, 0.5, 0.5], np.float32), np.array([0.25, 0.25, 0.25, 0.5], np.float32)
    np.testing.assert_allclose(sample(texture, a, b)[:, 0], [0, 1, 0.5, 0.25])


def test_look_at_is_a_level_opengl_camera():
    pose = look_at(np.array([1.0, -3.0, 2.0]), np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert pose[2, 0] == pytest.approx(0) and pose[2, 1] > 0
    forward = -pose[:3, 2]
    np.testing.assert_allclose(np.cross(forward, [-1.0, 3.0, -1.0]), 0, atol=1e-12)
    assert 0 < FIRST_RAY < 1
