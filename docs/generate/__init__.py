"""Pages that are made from docstrings: one module each, with `PAGE`, its path, and `page()`, its text."""
