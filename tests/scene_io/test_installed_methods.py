"""nerfstudio's list of methods is imported without those that it could install, and is whole for everybody else."""

from __future__ import annotations

import pytest
from nerfstudio.configs import external_methods
from nerfstudio.configs.external_methods import ExternalMethodDummyTrainerConfig
from nerfstudio.configs.method_configs import all_methods

from genlangsplat_ns.scene_io.installed_methods import installed_methods_only


def test_the_list_of_these_tests_has_installed_methods_only() -> None:
    """`conftest.py` imports it in the block."""
    assert {"gen-langsplat", "gen-langsplat-lite", "splatfacto"} <= all_methods.keys()
    assert not [name for name, config in all_methods.items() if isinstance(config, ExternalMethodDummyTrainerConfig)]


def test_the_other_methods_are_left_out_in_the_block_only() -> None:
    before = list(external_methods.external_methods)
    assert before
    with installed_methods_only():
        assert external_methods.get_external_methods() == ({}, {})
    assert external_methods.external_methods == before
    with pytest.raises(KeyError), installed_methods_only():
        raise KeyError
    assert external_methods.external_methods == before
