"""The scenes of the paper from data to a table beside published scores: `make paper-check`, `paper_check.py`.

- `scenes`: the nine scenes, what is there of them, and what is missing.
- `weights`: the weights of SAM and CLIP, fetched by their hashes.
- `estimate`: hours and gigabytes, before anything starts.
- `state`: what is done, in one file, so that nothing is repeated.
- `work`: training and evaluation of one scene, each in its own process.
- `command`: runs a program in such a process.
- `table`: what was measured and what is published, in one table.
- `stand_in`, `tiny_models`: synthetic scenes and random weights of the same form, for a rehearsal.
"""
