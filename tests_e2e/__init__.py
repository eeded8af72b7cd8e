"""The whole of Testbench as its users run it: processes, real servers, and what they find in the files afterwards."""
