"""What an API server and its Job controller do, said once and asked of two: the in-memory cluster and a real one.

The tests take the fixtures `api` (a client), `namespace` (a fresh one) and `kubelet`; `tests/arena/cluster` and
`tests_cluster/test_contract.py` bring their own and import the tests from here.
"""

import pytest

for _module in ("objects", "deletion", "schema", "watches", "jobs"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
