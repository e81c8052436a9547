"""Scenes that are opened without their photographs: a data set, and a data manager, of zero views."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float64
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import DataManager
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from genlangsplat_ns.views.dataset import ViewDataset


class AbsentViews(ViewDataset):
    """A data set of zero views in the coordinate frame of a run."""

    def __init__(self, transform: Float64[Tensor, "3 4"], scale: float) -> None:
        none = torch.zeros(0, 1)
        sizes = none.long()
        cameras = Cameras(torch.zeros(0, 3, 4), fx=none, fy=none, cx=none, cy=none, width=sizes, height=sizes)
        super().__init__(
            DataparserOutputs([], cameras, metadata={}, dataparser_transform=transform, dataparser_scale=scale)
        )

    def __bool__(self) -> bool:
        # nerfstudio's viewer asserts that there is a data set, not that it has views.
        return True

    def set_up(
        self,
        manager: FullImageDatamanager,
        config: Any,
        device: torch.device | str,
        test_mode: Literal["test", "val", "inference"],
    ) -> None:
        """Sets up a data manager with zero views, instead of its constructor, which reads the data."""
        manager.config, manager.device, manager.test_mode = config, device, test_mode
        manager.world_size, manager.local_rank, manager.sampler = 1, 0, None
        manager.test_split, manager.includes_time = "test", False
        manager.dataparser_config, manager.train_dataparser_outputs = config.dataparser, self._dataparser_outputs
        manager.train_dataset = manager.eval_dataset = self
        manager.train_unseen_cameras, manager.eval_unseen_cameras = [], []
        manager.exclude_batch_keys_from_device = self.exclude_batch_keys_from_device
        DataManager.__init__(manager)
