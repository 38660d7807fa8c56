"""The built pages show what was measured. Run by .ci/run on the book that it has just built:

VAENOTES_HTML names the folder of the pages, VAENOTES_STORE the store behind them, and
VAENOTES_PARAMETERS the parameters that they were built with.
"""

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

import vaenotes as vn
from vaenotes.ledger import OPEN, VERDICTS, claims, predictions, verdict
from vaenotes_book import read_parameters

BOOK = Path(__file__).parents[1] / "book"
HTML = os.environ.get("VAENOTES_HTML")
pytestmark = pytest.mark.skipif(not HTML, reason="VAENOTES_HTML names no built book")


@pytest.fixture(scope="module")
def settings():
    return vn.Settings(**read_parameters(os.environ.get("VAENOTES_PARAMETERS", "")))


@pytest.fixture(scope="module")
def findings(settings):
    return vn.all_findings(settings)


def soup(page):
    return BeautifulSoup((Path(HTML) / f"{page}.html").read_text(), "html.parser")


def test_the_ledger_has_every_claim_with_its_verdict_its_numbers_and_a_link_that_resolves(findings):
    table = next(t for t in soup("index").find_all("table") if "verdict" in t.thead.text)
    rows = table.tbody.find_all("tr")
    assert len(rows) == len(claims())
    for claim, row in zip(claims(), rows, strict=True):
        cells = [cell.get_text() for cell in row.find_all("td")]
        assert cells[0] == claim.id
        assert cells[2] == verdict(claim, findings)
        assert cells[3].startswith(vn.ledger.text(findings[claim.effect]))
        page, anchor = row.a["href"].split(".html#")
        assert soup(page).find(id=anchor), row.a["href"]


def test_numbers_in_the_prose_are_the_findings(settings, findings):
    """In the answers, by their place: the source names the finding, the page has the number."""
    source = (BOOK / "index.md").read_text()
    answers = source.split("## The answers")[1].split("## The two figures")[0]
    keys = re.findall(r"\{glue:text\}`([^`:]+):([^`]+)`", answers)
    section = soup("index").find(id="the-answers")
    shown = [span.get_text() for span in section.select("span.pasted-text")]
    assert len(keys) == len(shown) > 10
    verdicts = Counter(verdict(claim, findings) for claim in claims())
    numbers = vn.ledger.numbers(findings)
    numbers |= {name.replace(" ", "_"): verdicts[name] for name in (*VERDICTS, OPEN)}
    numbers["claims"] = len(claims())
    numbers["replicas"] = sum(len(vn.arm(settings, name)) for name in vn.ARMS)
    for (key, form), number in zip(keys, shown, strict=True):
        assert number == format(numbers[key], form), key


@pytest.mark.parametrize("chapter", sorted((BOOK / "questions").glob("*.md")), ids=lambda p: p.stem)
def test_a_chapter_shows_its_predictions_beside_what_came_of_them(chapter, findings):
    text = soup(f"questions/{chapter.stem}").get_text(" ")
    rows = [row for row in predictions() if row.experiment == chapter.stem]
    assert rows
    for row in rows:
        assert row.finding in text and vn.ledger.text(findings[row.finding]) in text
