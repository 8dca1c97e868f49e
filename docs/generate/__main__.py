"""`make docs`, or `python -m docs.generate`: write what is made from declarations, docstrings and measured figures."""

from docs.generate import commands, configuration, metrics, models, results

made = {
    **models.pages(),
    configuration.PAGE: configuration.page(),
    commands.PAGE: commands.page(),
    metrics.PAGE: metrics.page(),
}
for page, text in {**made, **results.pages(made)}.items():
    page.write_text(text, encoding="utf-8")
