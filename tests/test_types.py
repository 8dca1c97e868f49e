"""What a type checker says to a user of the library, and to whoever passes something that is not a sparse matrix."""

from mypy import api

SNIPPET = """
import recsys
from recsys.nn.products import stored_products
from recsys.ranking import top_n
from recsys.sparse import as_csr, Rows

model = recsys.MultVAE(hidden=200)
reveal_type(model.hidden)
reveal_type(as_csr(object()))
Rows("not a matrix")
"""


def test_sparse_matrices_and_hyperparameters_have_types(tmp_path):
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    said, _, _ = api.run([str(file)])
    assert 'Revealed type is "int"' in said or 'Revealed type is "builtins.int"' in said, said
    assert "csr_matrix" in said
    assert 'Argument 1 to "Rows" has incompatible type "str"' in said
