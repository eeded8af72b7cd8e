"""Secrets of addresses and command lines are never shown."""

from __future__ import annotations

import pytest

from testbench.safe_text import redact_arguments, redact_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a.csv", "https://example.com/a.csv"),
        ("https://user:s3cret@example.com:8000/a", "https://example.com:8000/a"),
        ("https://example.com/a.csv?X-Amz-Signature=s3cret#s3cret", "https://example.com/a.csv"),
        ("http://[::1", "…"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["--header", "Authorization: Bearer s3cret", "x"],
        ["--header=Authorization: Bearer s3cret"],
        ["--set", "run.header=Authorization: Bearer s3cret"],
        ["--set=run.header=s3cret"],
        ["https://user:s3cret@example.com/a?token=s3cret"],
        ["--set", "run.agent_url=https://user:s3cret@example.com"],
    ],
)
def test_a_command_line_is_shown_without_its_secrets(arguments: list[str]) -> None:
    shown = redact_arguments(arguments)
    assert len(shown) == len(arguments)
    assert "s3cret" not in " ".join(shown)


def test_the_rest_of_a_command_line_is_shown_as_it_is() -> None:
    arguments = ["http://127.0.0.1:8000/", "my flow", "--concurrency=4", "--output", "a=b.json"]
    assert redact_arguments(arguments) == arguments
