"""Everything that a first run needs and that no laptop has at hand: an agent to test, and datasets to test it with.

The demo, the benchmarks and the end-to-end tests start the sample agent and read the sample datasets, so that all of
Testbench runs without a cluster, a key or a network.
"""
