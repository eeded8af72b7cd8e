"""Execution: every scenario through the agent, with retries, a journal to take up from, and a summary at the end."""
