"""A trained scene, and all that can be done with it.

- `language_scene`: `LanguageScene`, the views, pictures and answers of a scene; `run.open_run` makes one.
- `query_views`, `cameras`, `settings`: asking from many cameras, with pictures, videos and query.json.
- `export`, `removal`, `compression`, `lifting`: a PLY file, a run without an object, a smaller run, new latents.
- `description`: what the scene consists of; `metrics`, `labels`, `evaluation`: measured against labels.
- `run_report`: the report of a finished training, with `cost_report`, `health_report`, `measured_views` and
  `report_page`; `cost_table`: the costs of several runs.
- `init_from`, `placement`: geometry from other runs and files; `extraction`: features without training.

It joins the plugin's model and datamanager with `language`, `lifting`, `evaluation` and `scene_io`. The pipeline and
the commands use it.
"""
