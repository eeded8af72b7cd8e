"""The contract of `tests/cluster`: the same tests against a real Kubernetes control plane (`make cluster-test`)."""
