"""The training views as the language solver takes them."""

from __future__ import annotations

from collections.abc import Iterator

from genlangsplat_ns.console import track
from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.language.lifting import LabelledView
from genlangsplat_ns.model import GenLangSplatModel


class TrainingViews:
    """Walks through the training views with their regions and latents, anew as often as asked and one at a time."""

    def __init__(self, model: GenLangSplatModel, datamanager: GenLangSplatDataManager) -> None:
        self.model, self.datamanager = model, datamanager
        self._walks = 0

    def __len__(self) -> int:
        return len(self.datamanager.train_dataset)

    def __iter__(self) -> Iterator[LabelledView]:
        self._walks += 1
        for index in track(range(len(self)), f"Lifting latents, pass {self._walks}"):
            features = self.datamanager.language_features("train", index)
            yield LabelledView(
                operator=self.model.view_weights(self.datamanager.camera("train", index), index),
                regions=features.regions.to(self.model.device),
                latents=self.model.region_latents(features),
                name=f"the training view {self.datamanager.view_name('train', index)}",
            )
