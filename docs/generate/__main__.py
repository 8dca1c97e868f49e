"""`make docs`, or `python -m docs.generate`: write what is made from declarations and docstrings."""

from docs.generate import configuration, metrics, models

for page, text in {**models.pages(), configuration.PAGE: configuration.page(), metrics.PAGE: metrics.page()}.items():
    page.write_text(text, encoding="utf-8")
