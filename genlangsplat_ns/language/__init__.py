"""What a scene's latents mean: autoencoder, memory, queries, and the field that answers them.

- `field`: `LanguageField`, everything that can be asked of a scene. The relevancy of a Gaussian is computed there, by
  `LanguageField.relevancy`. The model, the viewer's tools, `scene` and the commands call its `select`, `find`, `peaks`
  and `seen_scores`, which all go through it; evaluation in the mode gaussian reads `level_scores`.
- `query`, `settings`: what is asked; `relevancy`: LERF's score; `answers`: choice of a level, peaks and masks.
- `gaussian_scores`, `pixel_scores`: the two query modes; `selection`: sets of Gaussians.
- `autoencoder`, `architectures`, `named_autoencoders`, `projection`: embeddings to latents and back.
- `memory`, `attention`, `decoding`: the scene's memory, how latents are decoded, and which latents count.
- `vocabulary`, `description`, `visualize`: names for things, groups, pictures; `compression`: how latents are stored.

It uses `rasterization` (for the compiled kernels) and `utils`, and knows nothing of nerfstudio. An encoder of texts is
anything with `encode_texts`; the encoders themselves are in `features.encoders`.
"""
