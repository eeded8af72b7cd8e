"""The contract of `tests/support/cluster` against a real control plane: the same tests, with this folder's fixtures."""

# ruff: noqa: F403
from tests.support.cluster.contract.deletion import *
from tests.support.cluster.contract.jobs import *
from tests.support.cluster.contract.objects import *
from tests.support.cluster.contract.schema import *
from tests.support.cluster.contract.watches import *
