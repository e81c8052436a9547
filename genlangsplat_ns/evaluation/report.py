"""A self-contained HTML report of an evaluation, with figures, tables and images. The worst answers come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genlangsplat_ns.evaluation.evaluate import AnsweredText, IdentifiedEncoder
from genlangsplat_ns.evaluation.labels import Mask
from genlangsplat_ns.evaluation.page import Page, Picture, data_uri, definitions, percent, write_page
from genlangsplat_ns.evaluation.protocols import EvaluationProtocol
from genlangsplat_ns.evaluation.published import PublishedScore
from genlangsplat_ns.evaluation.scores import Evaluation, QueryScore
from genlangsplat_ns.language.visualize import relevancy_overlay


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


def write_report(path: Path, report: Report) -> None:
    """Writes the page, which needs no other file and no network."""
    cards = sorted(report.cards, key=lambda card: (bool(card.scores[0].hit), card.scores[0].iou))
    shown, rest = cards[:NUM_OPEN_CARDS], cards[NUM_OPEN_CARDS:]
    more = f"<details><summary>{len(rest)} better answers</summary>{_cards(rest)}</details>" if rest else ""
    protocols = "".join(
        f"<li><b>{escape(protocol.name)}</b>: {escape(protocol.description)}.</li>" for protocol in report.protocols
    )
    tables = "".join(
        f"<section><h2>{escape(title)}</h2>{_table(report.evaluation, report.protocols, split)}</section>"
        for split, title in report.splits.items()
    )
    sections = (
        f"<p class=encoder>{escape(report.encoder)}</p>",
        tables,
        "<section><h2>Answers, worst first</h2>"
        "<p class=note>From left to right: the rendered view; relevancy on a fixed scale from 0.5 to 1, with a "
        "cross at its peak; the selection; the ground truth. The outline is that of the ground truth.</p>"
        f"{_cards(shown)}{more}</section>",
        _published(report),
        f"<section class=facts><h2>How it was measured</h2><ul>{protocols}</ul>{definitions(report.facts)}</section>",
    )
    write_page(path, Page(report.title, report.summary, report.figures, sections, report.footer))


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


NUM_OPEN_CARDS = 18
"""Number of cards that are visible without expanding the rest."""
