"""The documentation site: which pages it has, and how they become HTML (`make site`, or `python -m docs.site`)."""
