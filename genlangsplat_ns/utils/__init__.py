"""General helpers without knowledge of scenes or language.

- `command_line`: runs the commands of a program and reports their errors.
- `console`: what commands print with; shows the log of the library.
- `downloads`: large files from the network, continued and checked.
- `files`: atomic writes, file names, checks and hashes.
- `loss_curve`: the loss over many steps.
- `lazy`: package exports that are imported on first use.
- `matrix_products`: fast matrix products on the CPU.
- `machine`: the machine of a process in a few words; `process_start`: when the process was started.
- `photographs`: images of any mode as 8-bit pixels.
- `progress`: progress of long work, reported by library modules and shown on the console of a command.
- `ray`: settings of Ray, and the connection to a cluster.
- `stopwatch`: what the stages of long work cost, and the peak of memory.
- `stored_settings`: settings in a config.yml that an earlier version wrote.
- `vectors`: directions of vectors; `version`: the version of the package; `view_names`: file names for views.

The package only imports `genlangsplat_ns.errors`; all other packages may import it. Import the modules directly.
"""
