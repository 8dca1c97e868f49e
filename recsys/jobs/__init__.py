"""The jobs: what the commands and the scripts in pipelines/ run, each read from top to bottom."""
