"""Settings of Ray, and the connection to a Ray cluster. Imports neither ray nor torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from genlangsplat_ns.errors import GenLangSplatError

START_PATIENTLY = "RAY_raylet_start_wait_time_s", "180"
"""Variable of Ray: seconds until a new cluster must have started. Its default is too short on a busy machine."""


@dataclass(frozen=True)
class RaySettings:
    """How the engine ray distributes the work."""

    address: str | None = None
    """Address of the cluster; None for the one in RAY_ADDRESS, or else a new one on this machine."""
    num_cpus: float = 1.0
    """CPU cores of each task or worker."""
    num_gpus: float = 0.0
    """GPUs of each task or worker; with a fraction, several share one."""
    items_per_task: int = 8
    """Views or frames in one task. If its worker dies, all of them are processed again."""
    num_workers: int = 2
    """Workers of an extraction, each with its own models. Lifting does not use it."""

    def __post_init__(self) -> None:
        if self.items_per_task < 1 or self.num_workers < 1:
            raise GenLangSplatError(
                f"Ray needs at least one item per task and one worker, got items_per_task={self.items_per_task} and "
                f"num_workers={self.num_workers}. Raise them."
            )
        if self.num_cpus < 0 or self.num_gpus < 0:
            raise GenLangSplatError(
                "CPUs and GPUs of a Ray task must not be negative, got "
                f"num_cpus={self.num_cpus} and num_gpus={self.num_gpus}. Correct them."
            )


@contextmanager
def connected(address: str | None, advice: str) -> Iterator[None]:
    """Connects to a Ray cluster inside the block, unless this process is connected already.

    Errors of the library that a task raises leave the block unchanged.

    Args:
        address: Address of the cluster; None for the one in RAY_ADDRESS, or else for a new one on this machine.
        advice: What to do if Ray itself fails, a sentence.

    Raises:
        GenLangSplatError: Ray is not installed, there is no cluster at the address, or Ray fails inside the block.
    """
    try:
        import ray
    except ImportError as error:
        raise GenLangSplatError(
            f'The engine ray needs Ray ({error}). Install it: pip install "genlangsplat-ns[ray]"'
        ) from error
    own = not ray.is_initialized()
    if own:
        os.environ.setdefault(*START_PATIENTLY)
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise GenLangSplatError(
                f"There is no Ray cluster at {address or 'the address of RAY_ADDRESS'} ({error}). "
                "Start one with `ray start --head`, or omit the address."
            ) from error
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GenLangSplatError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise GenLangSplatError(f"Ray failed ({type(error).__name__}: {error}). {advice}") from error
    finally:
        if own:
            ray.shutdown()
