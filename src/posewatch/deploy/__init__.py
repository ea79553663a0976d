"""A published model version is judged by its gates and brought to where it serves."""
