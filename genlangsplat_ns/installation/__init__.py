"""What an installation has and lacks, for `gen-langsplat doctor`.

- `checks`: versions, device, kernels, programs, weights, autoencoders, and what `auto` takes.
- `scene_needs`: disk and memory that a scene needs, against what is free.

Nothing here decides: encoder, masks, autoencoder and kernels are asked for where training asks for them. The modules
import the rest of the package inside their functions, because a check must also run where the rest cannot be imported.
"""
