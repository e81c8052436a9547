"""The browser page of a scene: the server of `gen-langsplat view`, and the static pages of `gen-langsplat share`.

The page itself is written in TypeScript (`web/` in the repository) and built into `page/`. The modules here give it
numbers: the scene (`page_scene.py`), the scores of texts (`answers.py`, in the format of `protocol.py`) and what lies
under a click (`clicks.py`).
"""
