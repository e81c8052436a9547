"""The language panel of ns-viewer.

- `panel`: `LanguageControls`, the texts, sliders and buttons, and the thread that embeds texts.
- `tools`: `SceneTools`, what the buttons do with a scene; the model hands over the functions it needs.
- `flight`: the camera's flight to a peak.
- `lasting_server`: keeps the viewer answering when browsers vanish.

It asks the scene's `LanguageField` and uses nerfstudio's viewer elements. Only the model uses it.
"""
