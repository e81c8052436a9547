"""The Content-Security-Policy of the page: nothing from elsewhere, no foreign script, no eval."""

from __future__ import annotations


def policy_of(scripts: str, styles: str) -> str:
    """Returns the policy with these sources of scripts and styles, for a header or an element."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {scripts}",
            # The page starts its workers from its own script.
            "worker-src blob:",
            "connect-src 'self'",
            "img-src 'self' blob: data:",
            f"style-src {styles}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
