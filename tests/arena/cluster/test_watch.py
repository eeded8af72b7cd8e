"""The in-memory cluster keeps the contract of watches; `tests_cluster` puts the same tests to a real one."""

# ruff: noqa: F401, F403
from tests.support.cluster.contract.watches import *
from tests.support.cluster.fixtures import api, kubelet, namespace, server
