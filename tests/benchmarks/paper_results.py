"""Small results of trainings and evaluations, in the form in which the commands write them."""

from __future__ import annotations

from typing import Any

PROTOCOLS = ("langsplat-lerf", "gaussian-selection")


def summary(localization: float | None, miou: float, pairs: int) -> dict[str, Any]:
    """The means of a protocol: a second one of texts that is 0.1 lower."""
    micro = {"localization": localization, "miou": miou, "acc_iou25": 0.5}
    macro = {name: None if value is None else value - 0.1 for name, value in micro.items()}
    return {"pairs": pairs, "micro": micro, "macro": macro}


def evaluation(localization: float, miou: float, pairs: int) -> dict[str, Any]:
    """What an evaluation with both decoders writes, as far as the table reads it; the autoencoder is 0.2 worse."""
    decoders = {
        decoder: {
            protocol: {
                "all": summary(None if protocol == "gaussian-selection" else localization - loss, miou - loss, pairs)
            }
            for protocol in PROTOCOLS
        }
        for decoder, loss in (("memory", 0.0), ("autoencoder", 0.2))
    }
    return {
        "decoders": decoders,
        "seconds": 360.0,
        "geometry": {"psnr": 25.0},
        "autoencoder": {"name": "projection-16"},
    }


def report() -> dict[str, Any]:
    """What a training writes, as far as the table reads it."""
    nothing = {"wall_seconds": 0.0}
    costs = {
        "stages": {"masks": {"wall_seconds": 3600.0}, "embeddings": {"wall_seconds": 1800.0}},
        "stored_features": {"masks": {"wall_seconds": 1800.0}, "embeddings": nothing},
        "regions": 800,
        "gaussians": 1000,
        "wall_seconds": 7200.0,
        "peak_memory_gb": 2.0,
        "peak_gpu_memory_gb": 8.0,
        "bytes": {"features": 10**9, "checkpoint": 2 * 10**9, "memory": 10**6},
        "device": "cuda",
        "machine": "a machine",
    }
    return {"costs": costs}
