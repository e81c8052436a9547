"""What the benchmarks share. No file here is a command; the commands are the files of the folder above."""
