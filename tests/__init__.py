"""The test suite; the real loopback parts that it runs against live in `tests.support.servers`."""
