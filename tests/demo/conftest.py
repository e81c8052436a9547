"""A small gallery for all tests of the demo."""

from __future__ import annotations

import pytest

from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery

SMALL = GallerySettings(num_views=10, width=160, height=120, num_points=2000)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory):
    return build_gallery(tmp_path_factory.mktemp("gallery"), SMALL)
