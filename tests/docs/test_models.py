"""The parts of files that are made of the declarations of models."""

import pytest

from docs.generate.models import ROOT, filled, pages


@pytest.mark.parametrize("page", ["README.md", "docs/models.md", "recsys/models/__init__.py", "recsys/__init__.pyi"])
def test_the_generated_part_is_up_to_date(page):
    made = pages()[ROOT / page]
    assert (ROOT / page).read_text(encoding="utf-8") == made, f"{page} is older than the declarations: make docs"


def test_only_what_lies_between_the_markers_is_replaced():
    assert filled("a <x>\nold\n</x> b", "<x>", "</x>", "new") == "a <x>\nnew\n</x> b"
    with pytest.raises(ValueError, match="there is no '<x>' followed by '</x>'"):
        filled("a <x> old", "<x>", "</x>", "new")
