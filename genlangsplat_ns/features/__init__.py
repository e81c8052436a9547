"""Language features of views: masks at three levels, embeddings of their regions, and their storage.

Settings: `settings`. Choice and loading of the models: `extractor`.
Masks: `masks` (interface), `watershed`, `sam`, `sam_weights`, `mask_nms`, and `regions` (masks and maps of regions).
Encoders: `encoders` (interface), `open_clip_encoder`, and `conse` with its parts `region_classifier`, `sentences` and
`wheels`.
Published weights of SAM and CLIP, on this machine and fetched: `published_weights`.
Extraction and storage: `extract`, `costs`, `store`, `view_file`, `langsplat` (LangSplat's files), `preview` (contact
sheets).

To add an encoder or a mask generator, write a file here, and name it in `encoders` or `masks`, in the choices of
`settings`, and in `extractor`, which resolves `auto`.

The package imports `errors`, `levels` and `utils`. Datamanager, commands, evaluation, viewer and `pretrain` use it.
`features.settings` imports no torch; the names below are imported on first use.
"""

from genlangsplat_ns.utils.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FeatureExtractor": "genlangsplat_ns.features.extractor",
        "FeatureSettings": "genlangsplat_ns.features.settings",
        "FeatureStore": "genlangsplat_ns.features.store",
        "ViewFeatures": "genlangsplat_ns.features.view_file",
        "load_encoder": "genlangsplat_ns.features.encoders",
        "load_mask_generator": "genlangsplat_ns.features.masks",
    },
)
