"""The API server as Testbench asks it: one protocol, HTTP, and a fake in memory."""
