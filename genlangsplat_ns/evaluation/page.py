"""The design of the HTML reports: pages that need no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from genlangsplat_ns.utils.files import atomic_path

Picture = UInt8[NDArray[np.uint8], "height width 3"]


@dataclass(frozen=True)
class Page:
    """The content of a report."""

    title: str
    summary: str
    """One or two sentences below the heading."""
    figures: Mapping[str, str]
    """Names and values of the main figures."""
    sections: Sequence[str]
    """HTML of the sections below them."""
    footer: str = ""
    """Credits and notes."""


def write_page(path: Path, page: Page) -> None:
    """Writes the page atomically."""
    figures = "".join(
        f"<div class=figure><b>{escape(value)}</b><span>{escape(name)}</span></div>"
        for name, value in page.figures.items()
    )
    html = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<meta name=color-scheme content="light dark">'
        f"<title>{escape(page.title)}</title><style>{STYLE}</style><main>"
        f"<header><h1>{escape(page.title)}</h1><p class=lead>{escape(page.summary)}</p>"
        f"<div class=figures>{figures}</div></header>"
        f"{''.join(page.sections)}<footer>{escape(page.footer)}</footer></main></html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def definitions(facts: Mapping[str, str]) -> str:
    """Makes a list of names and values."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{items}</dl>"


def data_uri(picture: Picture) -> str:
    """Encodes the image as a JPEG data URI, at most `MAX_PICTURE_WIDTH` wide."""
    image, encoded = Image.fromarray(picture), BytesIO()
    image.thumbnail((MAX_PICTURE_WIDTH, image.height))
    image.save(encoded, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")


def percent(share: float | None) -> str:
    """Formats a fraction as a percentage with one decimal; None becomes a hyphen."""
    return "-" if share is None else f"{share:.1%}"


MAX_PICTURE_WIDTH = 480
"""Maximum width in pixels of the images on the page."""

STYLE = """
:root{--ink:#1d2321;--soft:#66706c;--line:#dfe3e0;--paper:#fbfbf9;--card:#fff;--accent:#2f6f73;--bad:#b4442f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9e6;--soft:#98a19c;--line:#2d3432;--paper:#151918;--card:#1c2120;
--accent:#6fb5b8;--bad:#e58a73}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 ui-sans-serif,system-ui,"Segoe UI",Helvetica,
Arial,sans-serif;-webkit-font-smoothing:antialiased}
main{max-width:1180px;margin:0 auto;padding:4rem 1.5rem 3rem}
h1{font-size:2.1rem;line-height:1.2;font-weight:600;letter-spacing:-.02em;margin:0 0 .6rem}
h2{font-size:1.1rem;font-weight:600;margin:3.2rem 0 .8rem}
.lead{font-size:1.1rem;color:var(--soft);max-width:46rem;margin:0}
.figures{display:flex;flex-wrap:wrap;gap:1rem 3rem;margin:2rem 0}
.figure b{display:block;font-size:2rem;font-weight:600;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.figure span,.note,footer{color:var(--soft);font-size:.88rem}
.encoder{border-left:3px solid var(--accent);padding:.1rem 0 .1rem 1rem;margin:0;max-width:52rem;font-size:.95rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600}
th,td{padding:.42rem 1rem .42rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
.sub td{color:var(--soft);font-size:.8rem;padding-top:0}
td.text{font-weight:500}
td.missed{color:var(--bad)}
td.good{color:var(--accent)}
td.wrap{white-space:normal;min-width:18rem}
.said td,.advice td{border-left:3px solid var(--line);padding-left:1rem}
.advice td{border-left:3px solid var(--bad);padding-left:1rem}
tr.measured td{font-weight:600;color:var(--accent)}
.total td{color:var(--soft);font-weight:500}
.bar{display:inline-block;width:5rem;height:.42rem;border-radius:.3rem;background:var(--line);margin-right:.7rem;
vertical-align:middle;overflow:hidden}
.bar i{display:block;height:100%;background:var(--accent)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,44rem),1fr));gap:1.4rem;margin-top:1rem}
article{background:var(--card);border:1px solid var(--line);border-radius:.6rem;overflow:hidden}
.pictures{display:grid;grid-template-columns:repeat(4,1fr);gap:1px;background:var(--line)}
.pictures img{width:100%;display:block}
article p{margin:0;padding:.7rem 1rem .8rem;font-size:.95rem}
article span{display:block;color:var(--soft);font-size:.8rem}
.hit{color:var(--accent)}.miss{color:var(--bad)}
summary{cursor:pointer;color:var(--accent);margin-top:1.4rem}
.facts ul{padding-left:1.1rem;color:var(--soft);font-size:.92rem;max-width:60rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.6rem;font-size:.92rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:1rem}
"""
