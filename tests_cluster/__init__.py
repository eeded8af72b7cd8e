"""The contract of `tests/support/cluster` against a real Kubernetes control plane (`make cluster-test`)."""
