"""The contract of `tests/cluster`, put to a real control plane: the same tests, with this folder's fixtures."""

# ruff: noqa: F403
from tests.cluster.contract.deletion import *
from tests.cluster.contract.jobs import *
from tests.cluster.contract.objects import *
from tests.cluster.contract.schema import *
from tests.cluster.contract.watches import *
