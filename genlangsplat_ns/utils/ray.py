"""The connection to a Ray cluster, for every engine that spreads work over one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from genlangsplat_ns.errors import GenLangSplatError


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects to a cluster for the length of the block, unless this process is connected already.

    Args:
        address: The cluster; None for the one that the environment names, or else a new one on this machine.

    Raises:
        GenLangSplatError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise GenLangSplatError(
            f'The engine ray needs Ray ({error}). Install it: pip install "genlangsplat-ns[ray]"'
        ) from error
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise GenLangSplatError(
            f"There is no Ray cluster at {address or 'the address of RAY_ADDRESS'} ({escape(str(error))}). "
            "Start one with `ray start --head`, or leave the address out."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
