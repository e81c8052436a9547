"""Opens a finished run from its config.yml."""

from __future__ import annotations

import sys
from pathlib import Path

from nerfstudio.engine.trainer import TrainerConfig

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import DecoderName
from genlangsplat_ns.pipeline import GenLangSplatPipeline, GenLangSplatPipelineConfig
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.runs import StoredRun
from genlangsplat_ns.utils.console import hide, is_shown


def open_run(config_path: Path, decoder: DecoderName | None = None, require_language: bool = True) -> LanguageScene:
    """Opens the newest checkpoint of a run.

    Args:
        config_path: The run's `config.yml`. nerfstudio's loader executes code named in it: open only runs you trust.
        decoder: Decoder of the latents; None for the decoder of the run. With `autoencoder` a damaged memory is
            ignored.
        require_language: Raise an error if the run has not reached its language phase.

    Raises:
        GenLangSplatError: The file is no run of this project, or the run lacks the required language phase or memory.
    """
    # nerfstudio imports this package while it registers its methods, so this import cannot be at the top.
    from nerfstudio.utils.eval_utils import eval_setup

    config_path = Path(config_path)
    if not config_path.is_file():
        raise GenLangSplatError(f"There is no {config_path}. Expected the config.yml that ns-train wrote.")
    location = config_path.resolve()

    def adjust(config: TrainerConfig) -> TrainerConfig:
        # The run may have been moved, or the working directory may differ.
        if len(location.parents) > 3:
            config.output_dir = location.parents[3]
        if decoder is not None and isinstance(config.pipeline, GenLangSplatPipelineConfig):
            config.pipeline.model.decoder = decoder
        return config

    hook, shown = sys.excepthook, is_shown()
    try:
        _, pipeline, checkpoint, _ = eval_setup(config_path, test_mode="test", update_config_callback=adjust)
    finally:
        # Loading a run installs an exception hook for nerfstudio's commands, which scripts must not inherit.
        sys.excepthook = hook
        if not shown:
            hide()
    if not isinstance(pipeline, GenLangSplatPipeline):
        raise GenLangSplatError(
            f"{config_path} is a run of {type(pipeline).__name__}, expected a run of gen-langsplat. Train one with "
            "`ns-train gen-langsplat --data SCENE`."
        )
    scene = LanguageScene(pipeline.model, pipeline.datamanager, StoredRun(config_path, checkpoint))
    if decoder is not None:
        scene.model.decode_by(decoder)
    if require_language:
        _ = scene.field
    return scene
