"""ArenaJob: evaluation, load test and data generation from one Kubernetes manifest.

    manifest -> plan -> shards -> results of shards -> reduce -> verdict -> outputs

Everything here is pure but for the modules that say otherwise in their first line; two thin executors share it: this
machine (`testbench arena`) and Kubernetes (`testbench operator`).
"""
