"""The HTML of shared pages: its Content-Security-Policy, and everything in one file.

What a file contains never becomes markup: JSON has its `<` escaped, and bytes are base64. The policy of a page in one
file names the hashes of its script and style, so that no other script can run.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.web.page_files import INDEX
from genlangsplat_ns.web.policy import policy_of

STYLE, SCRIPT = "style.css", "app.js"

HEAD, BODY_END = "<head>", "</body>"

STYLE_TAG = '<link rel="stylesheet" href="style.css">'
SCRIPT_TAG = '<script src="app.js" defer></script>'
"""The parts of the page that are replaced in one file."""

POLICY_END = "<!-- page of gen-langsplat share -->"
"""Ends the policy, and tells shared pages from other files."""


def with_policy(html: bytes) -> bytes:
    """Returns the HTML of the page with the policy for static hosts, which send no header of ours."""
    return _insert_policy(_checked(html), policy_of("'self'", "'self'")).encode()


def in_one_file(files: Mapping[str, bytes]) -> bytes:
    """Puts a page into one HTML file, which works without a host: what `with_policy` made, and all other files.

    The page finds a file as the element whose `data-file` is the name.
    """
    script, style = _script(files[SCRIPT].decode()), files[STYLE].decode().replace("\r\n", "\n")
    if "</style" in style.lower():
        raise GenLangSplatError(f"Found </style in {STYLE} of the page, which ends it. Build the page again.")
    html = _checked(files[INDEX])
    # The policy of the folder is replaced.
    start = html.index(HEAD) + len(HEAD)
    html = html[:start] + html[html.index(POLICY_END, start) + len(POLICY_END) :]
    html = _insert_policy(html, policy_of(_hash(script), _hash(style)))
    html = html.replace(STYLE_TAG, f"<style>{style}</style>").replace(SCRIPT_TAG, "")
    elements = [_element(name, data) for name, data in files.items() if name not in (INDEX, SCRIPT, STYLE)]
    before, end, after = html.rpartition(BODY_END)
    return "".join([before, *elements, f"<script>{script}</script>", end, after]).encode()


def _insert_policy(html: str, policy: str) -> str:
    meta = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">{POLICY_END}'
    return html.replace(HEAD, HEAD + meta, 1)


def _checked(html: bytes) -> str:
    text = html.decode()
    missing = [part for part in (HEAD, BODY_END, STYLE_TAG, SCRIPT_TAG) if text.count(part) != 1]
    if missing:
        raise GenLangSplatError(f"Found {INDEX} of the page without exactly one {missing[0]}. Build the page again.")
    return text


def _script(text: str) -> str:
    """Returns a script that the parser of HTML does not end early; these words occur only in strings."""
    text = text.replace("\r\n", "\n").replace("<!--", "<\\x21--")
    for word in ("script", "SCRIPT", "Script"):
        text = text.replace(f"</{word}", f"<\\/{word}")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _element(name: str, data: bytes) -> str:
    """Returns a file as an element that the browser neither runs nor shows."""
    is_json = name.endswith(".json")
    kind = "application/json" if is_json else "application/octet-stream"
    content = data.decode().replace("<", "\\u003c") if is_json else b64encode(data).decode()
    return f'<script type="{kind}" data-file="{name}">{content}</script>'
