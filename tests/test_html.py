"""The built pages show what was measured. Run by .ci/run on the book that it has just built:

VAENOTES_HTML names the folder of the pages, VAENOTES_STORE the store behind them, and
VAENOTES_PARAMETERS the parameters that they were built with.
"""

import os
import re
from functools import cache
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from vaenotes import report
from vaenotes.report import cells, prose
from vaenotes.report.claims import claims, predictions, verdict
from vaenotes.report.page import numbers, read_parameters
from vaenotes.report.tables import brief
from vaenotes_book.pages import readable

BOOK = Path(__file__).parents[1] / "book"
HTML = os.environ.get("VAENOTES_HTML")
pytestmark = pytest.mark.skipif(not HTML, reason="VAENOTES_HTML names no built book")


@pytest.fixture(scope="module")
def settings():
    return report.Settings(**read_parameters(os.environ.get("VAENOTES_PARAMETERS", "")))


@pytest.fixture(scope="module")
def outcome(settings):
    return report.experiment(settings)


@cache
def soup(page):
    html = (Path(HTML) / f"{page}.html").read_text().replace("<wbr>", "")  # inside of names
    return BeautifulSoup(html, "html.parser")


def test_the_ledger_has_every_claim_with_its_verdict_its_numbers_and_a_link_that_resolves(outcome):
    table = soup("index").find("table", class_="ledger")
    for claim, row in zip(claims(), table.tbody.find_all("tr"), strict=True):
        cells = [cell.get_text() for cell in row.find_all("td")]
        kind = verdict(claim, outcome.findings).removeprefix("reproduced up ")
        value = outcome.findings[claim.effect].value
        assert cells[0] == claim.id and cells[2] == kind and cells[3].startswith(brief(value))
        for link in row.find_all("a"):
            page, _, anchor = link["href"].partition(".html")
            assert soup(page).find(id=anchor.removeprefix("#") or True), link["href"]


def test_numbers_in_the_prose_are_the_findings(settings, outcome):
    """On the front page, by their place: the source names the number, the page shows it."""
    source = (BOOK / "index.md").read_text()
    keys = re.findall(r"\{glue:text\}`([^`:]+):?([^`]*)`", source)
    shown = [span.get_text() for span in soup("index").select("span.pasted-text")]
    assert len(keys) > 10
    known = numbers(outcome) | prose.full_size() | prose.verdicts(outcome.findings)
    known |= prose.notes_figures() | prose.at_full_size()
    known["replicas"] = sum(len(report.arm(settings, name)) for name in report.ARMS)
    for (key, form), number in zip(keys, shown, strict=True):
        assert number == readable(format(known[key], form)), key


@pytest.mark.parametrize("experiment", sorted({row.experiment for row in predictions()}))
def test_a_chapter_shows_its_predictions_beside_what_came_of_them(experiment, outcome):
    call = f'predictions_table("{experiment}"'
    (chapter,) = [page for page in BOOK.glob("*.md") if call in page.read_text()]
    text = soup(chapter.stem).get_text(" ")
    for row in (row for row in predictions() if row.experiment == experiment):
        assert row.finding in text and cells.text(outcome.findings[row.finding]) in text


def test_every_figure_of_a_cell_links_the_source_that_drew_it_and_names_the_commit():
    """By their names: a figure in a page's source has to be in the page, with such a link."""
    count = 0
    for source in sorted(path for path in BOOK.rglob("*.md") if "_build" not in path.parts):
        page = source.relative_to(BOOK).with_suffix("")
        for name in re.findall(r"^ *:?name: (fig-\S+)", source.read_text(), re.MULTILINE):
            note = soup(page).find("figure", id=name).select_one("figcaption .figure-source")
            assert note, f"{page}: {name} does not link its source"
            assert re.search(r" at ([0-9a-f]{7,}(-dirty)?|unknown)$", note.get_text()), name
            file, anchor = note.a["href"].split("#")
            module = os.path.normpath(page.parent / file).removesuffix(".html")
            assert soup(module).find(id=anchor), note.a["href"]
            count += 1
    assert count > 20
