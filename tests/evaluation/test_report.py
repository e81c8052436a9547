"""The report: a single self-contained file, worst answers first, with a correct description of the encoder."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from genlangsplat_ns.evaluation.evaluate import TextTarget, evaluate_views
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF, THRESHOLD
from genlangsplat_ns.evaluation.published import published_scores
from genlangsplat_ns.evaluation.report import CardCollector, Report, describe_encoder, outline, write_report


class PageParser(HTMLParser):
    """Collects the tags of a page and the resources it refers to."""

    def __init__(self):
        super().__init__()
        self.sources, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]


@pytest.fixture
def page(make_run, labels, tmp_path):
    def write(meanings, name="stand-in", title="A <b>title</b>"):
        run = make_run(meanings, name)
        collector = CardCollector()
        targets = [TextTarget("a cup", "cup"), TextTarget("a book", "book")]
        evaluation = evaluate_views(run, run.views("all"), labels, targets, observe=collector.observe)
        report = Report(
            title=title,
            summary="All of it.",
            encoder=describe_encoder(run.encoder),
            figures={"localization": "50 %"},
            facts={"Seconds": "1.0"},
            evaluation=evaluation,
            protocols=(THRESHOLD, LANGSPLAT_LERF),
            splits={"eval": "Held out", "train": "Training"},
            cards=collector.cards,
            published=published_scores("lerf-ovs", "gallery"),
            published_note="Compare with care.",
        )
        write_report(tmp_path / "report.html", report)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def test_the_page_is_self_contained(page):
    html = page({"a cup": "cup", "a book": "book"})
    parser = PageParser()
    parser.feed(html)
    assert len(parser.sources) == 12 and all(source.startswith("data:image/jpeg") for source in parser.sources)
    assert not {"script", "link", "iframe"} & set(parser.tags)
    assert "url(" not in html and "@import" not in html and "http" not in html


def test_the_worst_answer_comes_first(page):
    html = page({"a cup": "cup", "a book": "cup"})
    verdicts = re.findall(r"<b class=(hit|miss)>\w+</b> <q>(.*?)</q>", html)
    assert verdicts[0] == ("miss", "a book") and [verdict for verdict, _ in verdicts[1:]] == ["hit", "hit"]


def test_texts_are_escaped(page):
    html = page({"a cup": "cup", "a book": "book"})
    assert "A &lt;b&gt;title&lt;/b&gt;" in html and "<b>title" not in html


def test_figures_tables_and_both_splits_are_shown(page):
    html = page({"a cup": "cup", "a book": "book"})
    for expected in ("50 %", "Held out", "Training", "langsplat-lerf", "micro mean", "macro mean", "1 of 1"):
        assert expected in html


def test_published_figures_are_shown_with_their_source(page):
    html = page({"a cup": "cup", "a book": "book"})
    section = html[html.index("Published figures") :]
    assert "this run, threshold" in section and "100.0%" in section
    assert "LangSplatV2 paper" in section and "59.9%" in section and "Compare with care." in section


def test_the_embedded_encoder_is_described_as_not_clip(page):
    assert "not by CLIP" in page({"a cup": "cup"}, name="conse")


def test_other_encoders_are_named_by_their_identity(page):
    html = page({"a cup": "cup"}, name="openclip")
    assert "Answered by openclip v1." in html and "not by CLIP" not in html


def test_an_outline_is_drawn_on_a_copy():
    picture = np.zeros((20, 20, 3), np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    drawn = outline(picture, mask)
    assert not picture.any() and drawn[5, 10].any() and not drawn[10, 10].any()
