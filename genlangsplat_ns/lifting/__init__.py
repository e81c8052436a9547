"""Lifting: from the latents of the regions in many views to one latent per Gaussian and level.

- `regions`, `region_views`: the regions of one view, and views loaded with regions from the feature store.
- `average`: weighted mean over views; `residuals`: how far a region contradicts the other views, and its weight then.
- `robust`: the rounds of reweighting, and lifting in this process; `ray`: lifting on a Ray cluster; `view_jobs`: the
  passes over the views that both run.
- `memory_regions`, `memory_fit`, `kmeans`: the fit of a scene's memory to the regions of all views.
- `health`, `health_measures`, `health_geometry`: four faults of a trained language field, found without labels.
- `loss`: the paper's language loss and its metrics; `settings`: the settings of lifting.

May import `rasterization`, `features`, `language` and `utils`. The model, the pipeline and `scene` use it.
"""
