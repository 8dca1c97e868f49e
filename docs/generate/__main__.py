"""`make docs`, or `python -m docs.generate`: write every page that is made from docstrings."""

from docs.generate import configuration

for module in (configuration,):
    module.PAGE.write_text(module.page(), encoding="utf-8")
