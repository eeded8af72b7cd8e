"""The way out: HTTP transport, object store, the one retry policy, pacing and time."""
