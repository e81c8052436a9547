"""Settings of Ray and the connection to a cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.ray import RaySettings, connected


@pytest.mark.parametrize(
    ("field", "value"), [("items_per_task", 0), ("num_workers", 0), ("num_cpus", -1.0), ("num_gpus", -0.5)]
)
def test_settings_that_ray_cannot_use_are_refused(field: str, value: float) -> None:
    with pytest.raises(GenLangSplatError, match=f"{field}={value}"):
        RaySettings(**{field: value})


def test_without_ray_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(GenLangSplatError, match=r'pip install "genlangsplat-ns\[ray\]"'), connected(None, ""):
        pass


def test_the_module_imports_neither_ray_nor_torch() -> None:
    code = "import sys, genlangsplat_ns.utils.ray; assert not {'ray', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
