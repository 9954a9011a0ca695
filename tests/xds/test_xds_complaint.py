"""What is kept of Envoy's complaints."""

from __future__ import annotations

import pytest

from fairlead.xds.complaint import MAX_MESSAGE, reason

DUMP = 'goo.gle/debugproto   \nname: "a"\nconnect_timeout {\n}\n'
WHY = "Proto constraint validation failed (ClusterValidationError.ConnectTimeout: value must be greater than 0s)"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("cannot bind '127.0.0.1:1': Address already in use\n", "cannot bind '127.0.0.1:1': Address already in use"),
        (f"{DUMP}: {WHY}", WHY),
        (f"{WHY}: {DUMP}", WHY),
        (
            f"Error adding/updating cluster(s) a: {DUMP}: {WHY}, b: no",
            f"Error adding/updating cluster(s) a: {WHY}, b: no",
        ),
        ("", ""),
        ("x" * 5000, "x" * MAX_MESSAGE),
    ],
)
def test_the_reason_is_kept_and_the_message_is_not(said: str, kept: str) -> None:
    assert reason(said) == kept


def test_a_complaint_without_a_reason_says_where_it_is() -> None:
    assert "fairlead logs" in reason(DUMP)
