"""Sphinx's settings of the site. `python -m docs.site` writes the pages, and calls Sphinx with them."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
import recsys
from docs.site.docstrings import converted

# All of it now: autodoc would execute the declarations of __init__.pyi in place of the package, and its modules under
# other conditions than a user does.
public = {name: getattr(recsys, name) for name in recsys.__all__}

project = "recsys"
author = "The recsys authors"
version = release = installed("recsys")
copyright = "MIT license"
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "index"
smartquotes = False
default_role = "code"
highlight_language = "none"
maximum_signature_line_length = 90

myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_custom_sections = [("Hyperparameters", "params_style")]
napoleon_numpy_docstring = False
napoleon_use_rtype = False
copybutton_exclude = ".linenos, .gp"

html_theme = "pydata_sphinx_theme"
html_title = f"recsys {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": True,
    "navbar_align": "left",
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": True,
}


def plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Convert a docstring before napoleon reads its sections."""
    lines[:] = converted(lines)


def setup(app: Any) -> None:
    """Register the conversion, ahead of napoleon's (500)."""
    app.connect("autodoc-process-docstring", plain, priority=100)
