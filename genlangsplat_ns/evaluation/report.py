"""A self-contained HTML report of an evaluation, with figures, tables and images. The worst answers come first."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from genlangsplat_ns.evaluation.evaluate import AnsweredText, IdentifiedEncoder
from genlangsplat_ns.evaluation.labels import Mask
from genlangsplat_ns.evaluation.protocols import EvaluationProtocol
from genlangsplat_ns.evaluation.published import PublishedScore
from genlangsplat_ns.evaluation.scores import Evaluation, QueryScore
from genlangsplat_ns.language.visualize import relevancy_overlay
from genlangsplat_ns.utils.files import atomic_path

Picture = UInt8[NDArray[np.uint8], "height width 3"]


@dataclass(frozen=True)
class Card:
    """One card of the report: the scores of a text in a view, and images as data URIs (see `answer_pictures`)."""

    scores: tuple[QueryScore, ...]
    pictures: tuple[str, ...]


@dataclass(eq=False)
class CardCollector:
    """Collects a card for every answer when its `observe` is passed to `evaluate_views`."""

    cards: list[Card] = field(default_factory=list)

    def observe(self, answered: AnsweredText) -> None:
        """Adds a card for an answer. Its images show the first protocol."""
        self.cards.append(Card(answered.scores, tuple(map(data_uri, answer_pictures(answered)))))


@dataclass(frozen=True)
class Report:
    """The content of the report page."""

    title: str
    summary: str
    """One or two sentences below the heading."""
    encoder: str
    """Description of the encoder, from `describe_encoder`."""
    figures: Mapping[str, str]
    """Names and values of the main figures."""
    facts: Mapping[str, str]
    """Names and values of other facts (timings, autoencoder, split)."""
    evaluation: Evaluation
    protocols: Sequence[EvaluationProtocol]
    """The protocols of the evaluation. The first one orders the cards."""
    splits: Mapping[str, str]
    """Titles of the splits to tabulate, the most important split first."""
    cards: Sequence[Card]
    footer: str = ""
    """Credits and notes."""
    published: Sequence[PublishedScore] = ()
    published_note: str = ""
    """Limits of the comparison with published scores."""


def describe_encoder(encoder: IdentifiedEncoder) -> str:
    """Describes the encoder for the report, and warns that the embedded one is not CLIP."""
    if encoder.name == "conse":
        return (
            f"Answered by the embedded encoder ({encoder.identity}), not by CLIP. It classifies image regions into the "
            "1,000 classes of ImageNet and compares the class names with the text: it knows cats and cups, but is weak "
            "on people, materials and colors. These scores do not predict the scores of CLIP."
        )
    return f"Answered by {encoder.identity}."


def answer_pictures(answered: AnsweredText) -> tuple[Picture, Picture, Picture, Picture]:
    """Returns the rendering, the relevancy overlay, the selection and the ground truth.

    The last two dim the other pixels and show the outline of the ground truth.
    """
    prediction, truth = answered.predictions[0], answered.truth.mask
    rgb = answered.rgb.detach().cpu().float()
    overlay = relevancy_overlay(rgb, rgb.new_tensor(prediction.map))
    photograph, heat = ((colors.numpy().clip(0, 1) * 255).round().astype(np.uint8) for colors in (rgb, overlay))
    if prediction.peaks:
        cv2.drawMarker(heat, prediction.peaks[0], (255, 255, 255), cv2.MARKER_CROSS, 15, 2, cv2.LINE_AA)
    selection, wanted = (
        outline(np.where(mask[..., None], photograph, photograph // 4), truth) for mask in (prediction.mask, truth)
    )
    return photograph, heat, selection, wanted


def outline(picture: Picture, mask: Mask) -> Picture:
    """Returns a copy of the image with the border of a mask drawn on it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlined = picture.copy()
    cv2.drawContours(outlined, contours, -1, (255, 64, 180), 2, cv2.LINE_AA)
    return outlined


def data_uri(picture: Picture) -> str:
    """Encodes the image as a JPEG data URI, at most `MAX_PICTURE_WIDTH` wide."""
    image, encoded = Image.fromarray(picture), BytesIO()
    image.thumbnail((MAX_PICTURE_WIDTH, image.height))
    image.save(encoded, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")


def write_report(path: Path, report: Report) -> None:
    """Writes the page, which needs no other file and no network."""
    cards = sorted(report.cards, key=lambda card: (bool(card.scores[0].hit), card.scores[0].iou))
    shown, rest = cards[:NUM_OPEN_CARDS], cards[NUM_OPEN_CARDS:]
    more = f"<details><summary>{len(rest)} better answers</summary>{_cards(rest)}</details>" if rest else ""
    figures = "".join(
        f"<div class=figure><b>{escape(value)}</b><span>{escape(name)}</span></div>"
        for name, value in report.figures.items()
    )
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.facts.items())
    protocols = "".join(
        f"<li><b>{escape(protocol.name)}</b>: {escape(protocol.description)}.</li>" for protocol in report.protocols
    )
    tables = "".join(
        f"<section><h2>{escape(title)}</h2>{_table(report.evaluation, report.protocols, split)}</section>"
        for split, title in report.splits.items()
    )
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<meta name=color-scheme content="light dark">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style><main>"
        f"<header><h1>{escape(report.title)}</h1><p class=lead>{escape(report.summary)}</p>"
        f"<div class=figures>{figures}</div><p class=encoder>{escape(report.encoder)}</p></header>"
        f"{tables}<section><h2>Answers, worst first</h2>"
        "<p class=note>From left to right: the rendered view; relevancy on a fixed scale from 0.5 to 1, with a "
        "cross at its peak; the selection; the ground truth. The outline is that of the ground truth.</p>"
        f"{_cards(shown)}{more}</section>"
        f"{_published(report)}"
        f"<section class=facts><h2>How it was measured</h2><ul>{protocols}</ul><dl>{facts}</dl></section>"
        f"<footer>{escape(report.footer)}</footer></main></html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _table(evaluation: Evaluation, protocols: Sequence[EvaluationProtocol], split: str) -> str:
    """Makes a table with one row per text: hits, and mean IoU as a bar, under each protocol."""
    summaries = [evaluation.summary(protocol.name, split) for protocol in protocols]
    if not summaries[0]["pairs"]:
        return "<p class=note>No labeled view is in this split.</p>"
    heads = "".join(f"<th colspan=3>{escape(protocol.name)}" for protocol in protocols)
    columns = "<td>found<td>mean IoU<td>IoU &gt; 0.25" * len(protocols)
    rows = ["<tr><th>text<th>object" + heads, "<tr class=sub><td><td>" + columns]
    for index, text in enumerate(summaries[0]["texts"]):
        cells = "".join(_text_cells(summary["texts"][index]) for summary in summaries)
        rows.append(f"<tr><td class=text>{escape(text['text'])}<td>{escape(text['category'])}{cells}")
    for name in ("micro", "macro"):
        over = "over all pairs of view and text" if name == "micro" else "over texts, equally weighted"
        cells = "".join(
            f"<td>{percent(summary[name]['localization'])}{_overlap_cells(summary[name])}" for summary in summaries
        )
        rows.append(f"<tr class=total><td>{name} mean<td>{over}{cells}")
    return f"<div class=scroll><table>{''.join(rows)}</table></div>"


def _text_cells(text: dict[str, Any]) -> str:
    if text["hits"] is None:
        return f"<td>-{_overlap_cells(text)}"
    missed = " class=missed" if 2 * text["hits"] <= text["views"] else ""
    return f"<td{missed}>{text['hits']} of {text['views']}{_overlap_cells(text)}"


def _overlap_cells(means: dict[str, Any]) -> str:
    share = means["miou"]
    bar = f"<span class=bar><i style='width:{100 * share:.0f}%'></i></span>{share:.2f}"
    return f"<td>{bar}<td>{percent(means['acc_iou25'])}"


def percent(share: float | None) -> str:
    """Formats a fraction as a percentage with one decimal; None becomes a hyphen."""
    return "-" if share is None else f"{share:.1%}"


def _published(report: Report) -> str:
    """Makes a table with the measured means, followed by published scores."""
    if not report.published:
        return ""
    rows = ["<tr><th>method<th>scene<th>masks from<th>localization<th>mean IoU<th>IoU &gt; 0.25<th>source"]
    for protocol in report.protocols:
        micro = report.evaluation.summary(protocol.name, "all")["micro"]
        rows.append(
            f"<tr class=measured><td class=text>this run, {escape(protocol.name)}<td>this scene<td>{protocol.family}"
            f"<td>{percent(micro['localization'])}<td>{percent(micro['miou'])}<td>{percent(micro['acc_iou25'])}"
            "<td>measured, micro mean over all labeled views"
        )
    for score in report.published:
        rows.append(
            f"<tr><td>{escape(score.method)}<td>{escape(score.scene)}<td>{score.family}<td>{percent(score.localization)}"
            f"<td>{percent(score.miou)}<td>{percent(score.acc_iou25)}<td>{escape(score.source)}"
        )
    return (
        f"<section><h2>Published figures</h2><p class=note>{escape(report.published_note)}</p>"
        f"<div class=scroll><table>{''.join(rows)}</table></div></section>"
    )


def _cards(cards: Sequence[Card]) -> str:
    return f"<div class=cards>{''.join(_card(card) for card in cards)}</div>"


def _card(card: Card) -> str:
    first = card.scores[0]
    scores = " · ".join(f"{escape(score.protocol)}: IoU {score.iou:.2f}" for score in card.scores)
    verdict = "<b class=hit>found</b>" if first.hit else "<b class=miss>missed</b>"
    captions = ("view", "relevancy", "selection", "ground truth")
    pictures = "".join(
        f'<img loading=lazy alt="{escape(first.text)} in {escape(first.view)}: {caption}" src="{uri}">'
        for caption, uri in zip(captions, card.pictures, strict=True)
    )
    return (
        f"<article><div class=pictures>{pictures}</div><p>{verdict} <q>{escape(first.text)}</q> in {escape(first.view)}"
        f"<span>peak relevancy {first.score:.2f}, level {escape(first.level)} · {scores}</span></p></article>"
    )


MAX_PICTURE_WIDTH = 480
"""Maximum width in pixels of the images on the page."""

NUM_OPEN_CARDS = 18
"""Number of cards that are visible without expanding the rest."""

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
