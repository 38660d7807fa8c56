"""The book in a real browser, over file:// and with no network, as a reader opens it.

VAENOTES_HTML names the folder of the built pages; without it only the checks themselves are tested,
on small pages with one thing broken on purpose. Where Chromium is missing all of this is skipped,
but not in CI.
"""

import importlib.util
import io
import os
import re
import shutil
import threading
import unicodedata
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from vaenotes.report import sliders

ROOT = Path(__file__).parents[1]
HTML = Path(os.environ.get("VAENOTES_HTML") or "no book").resolve()
PAGES = sorted(
    str(path.relative_to(HTML).with_suffix(""))
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts
)
# Contrast depends on the scheme, all else on the width: two windows have it all.
TELLING = [("phone", "light"), ("desktop", "dark")]
WINDOWS = [TELLING[0], ("phone", "dark"), ("desktop", "light"), TELLING[1]]

# What axe-core finds and stays: the rule, what marks the element, and why.
EXCEPTIONS = {
    # docutils writes a bibliography as a list whose entries have a role of their own, which ARIA
    # has since deprecated, so axe-core misses the list's items. The text is read all the same.
    "aria-deprecated-role": 'role="doc-biblioentry"',
    "aria-required-children": 'class="citation-list"',
}

tools = shutil.which("chromium") and importlib.util.find_spec("axe_playwright_python")
if tools or os.environ.get("CI") == "true":
    import reader
    from playwright import sync_api as playwright
    from pypdf import PdfReader
else:
    pytestmark = pytest.mark.skip(reason="needs chromium, and the packages in requirements.txt")
built = pytest.mark.skipif(not PAGES, reason="VAENOTES_HTML names no built book")


@pytest.fixture(scope="module")
def context():
    with reader.chromium() as context:
        yield context


def visit(context, path):
    return reader.Visit(context, path.as_uri())


def letters(text):
    """Without spaces and ligatures, which a PDF has where it likes."""
    return "".join(unicodedata.normalize("NFKC", text).split())


# The book


@built
def test_every_page_of_the_contents_is_there():
    toc = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
    assert {*toc, "search", "genindex"} <= set(PAGES)


@built
@pytest.mark.parametrize("name", PAGES)
def test_a_reader_has_nothing_to_complain_of(name, context):
    """In light and dark, on a phone and at a desk, and on paper, but for listings of source."""
    seen = visit(context, HTML / f"{name}.html")
    complaints = reader.links(seen) + reader.images(seen) + reader.mathematics(seen)
    listing = name.startswith("_modules/")
    if not listing:
        seen.open_details()
    for window in TELLING if listing else WINDOWS:
        width, scheme = window
        seen.show(scheme, width)
        assert seen.page.evaluate("document.documentElement.dataset.theme") == scheme
        complaints += reader.overflow(seen)
        if window in TELLING and not listing:
            complaints += reader.tables(seen) + reader.names(seen) + reader.letters(seen)
        if window in TELLING:
            complaints += reader.accessibility(seen, EXCEPTIONS)
    if not listing:
        complaints += printed(seen)
    complaints += reader.console(seen) + reader.requests(seen)
    seen.page.close()
    assert not complaints, "\n".join(dict.fromkeys(complaints))


def printed(seen):
    """A page prints in light colours from a dark window, with its title, and as wide as A4."""
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
    seen.page.evaluate(
        "addEventListener('beforeprint', () => window.ink = getComputedStyle(document.body).color)"
    )
    pdf = PdfReader(io.BytesIO(seen.page.pdf(format="A4", prefer_css_page_size=True)))
    assert seen.page.evaluate("ink.match(/[0-9]+/g).every(part => part < 100)")
    title = re.sub(r"^\d+\. ", "", re.split(" [-—] ", seen.page.title())[0])
    assert letters(title) in letters(pdf.pages[0].extract_text())
    return reader.paper(seen) + reader.overflow(seen)


def searched(context, address, quoted):
    """The page of results for "nail"; `quoted`: what has to appear on it."""
    seen = reader.Visit(context, f"{address}/index.html")
    seen.page.goto(f"{address}/search.html?q=nail")
    seen.page.wait_for_selector("ul.search li a")
    seen.page.wait_for_selector(quoted)
    addresses = seen.page.locator("ul.search li a").evaluate_all("all => all.map(a => a.href)")
    assert any("hidden_talents.html" in address for address in addresses)
    assert not reader.console(seen) + reader.requests(seen)
    return seen.page


@built
def test_search_lists_what_it_finds_over_file(context):
    searched(context, HTML.as_uri(), "text=/found .* page/").close()


@built
def test_search_quotes_what_it_finds_when_served(context):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = searched(context, f"http://127.0.0.1:{server.server_port}", "p.context")
        assert "nail" in page.locator("p.context").first.inner_text().lower()
        page.close()
        server.shutdown()


# Films


def test_a_film_follows_its_slider_and_plays_to_its_end(context, tmp_path):
    frames = {str(epoch): Figure((1, 1)) for epoch in range(4)}
    script = ROOT / "book" / "assets" / "vaenotes.js"
    film = sliders.film(frames, "3", "epoch", "a blank").data
    both = "<script>DOCUMENTATION_OPTIONS = {}</script>" + film + film.replace("epoch", "other")
    (tmp_path / "page.html").write_text(f"{both}<script>{script.read_text()}</script>")
    own = context.browser.new_context()  # a clock is all its pages': here it is made to stand still
    page = visit(own, tmp_path / "page.html").page

    one, other = page.locator(".film").all()

    def shown(film=one):
        (image,) = [image for image in film.locator("img").all() if image.is_visible()]
        return image.get_attribute("alt"), film.locator("output").inner_text()

    assert shown() == ("epoch 3: a blank", "3")
    slider, button = one.get_by_label("epoch"), one.get_by_role("button")
    slider.press("ArrowLeft")
    assert shown() == ("epoch 2: a blank", "2") and shown(other) == ("other 3: a blank", "3")
    assert slider.get_attribute("aria-valuetext") == "2"
    slider.press("End")
    page.clock.install(time=0)
    page.clock.pause_at(60)  # from here on it is moved by hand alone
    button.click()  # from its end it starts anew
    assert shown() == ("epoch 0: a blank", "0") and button.inner_text() == "Pause"
    page.clock.run_for(600)
    assert shown() == ("epoch 1: a blank", "1")
    button.click()
    page.clock.run_for(5000)
    assert shown() == ("epoch 1: a blank", "1") and button.inner_text() == "Play"
    button.click()
    page.clock.run_for(5000)
    assert shown() == ("epoch 3: a blank", "3") and button.inner_text() == "Play"
    own.close()


def test_a_loop_plays_while_it_is_seen_until_it_is_clicked_and_never_for_who_wants_no_motion(
    context, tmp_path
):
    frames = {str(epoch): Figure((1, 1)) for epoch in range(3)}
    script = (ROOT / "book" / "assets" / "vaenotes.js").read_text()
    film = sliders.film(frames, "2", "epoch", "a blank", loop=True).data
    before = "<script>DOCUMENTATION_OPTIONS = {}</script><div style='height: 3000px'></div>"
    (tmp_path / "page.html").write_text(f"{before}{film}<script>{script}</script>")

    def opened(motion):
        own = context.browser.new_context(reduced_motion=motion)
        page = visit(own, tmp_path / "page.html").page
        page.clock.install(time=0)
        page.clock.pause_at(60)  # from here on it is moved by hand alone
        return page, page.locator("output"), page.get_by_role("button")

    def passes(page, milliseconds, place):
        page.clock.run_for(milliseconds)
        return page.locator("output").inner_text() == place

    page, _, button = opened("no-preference")
    assert passes(page, 5000, "2")  # out of sight it stands still
    page.evaluate("scrollTo(0, 3000)")
    playwright.expect(button).to_have_text("Pause")
    assert passes(page, 2000, "2") and passes(page, 600, "0") and passes(page, 170, "1")
    page.evaluate("scrollTo(0, 0)")
    playwright.expect(button).to_have_text("Play")
    assert passes(page, 5000, "1")
    page.evaluate("scrollTo(0, 3000)")
    playwright.expect(button).to_have_text("Pause")
    page.locator(".film img:visible").click()
    assert button.inner_text() == "Play" and passes(page, 5000, "1")
    button.click()
    page.pdf()
    assert button.inner_text() == "Play" and passes(page, 5000, "2")  # on paper stands the end
    page.context.close()

    page, _, button = opened("reduce")
    page.evaluate("scrollTo(0, 3000)")
    page.wait_for_timeout(200)
    assert button.inner_text() == "Play" and passes(page, 5000, "2")
    button.click()  # who asks for it gets it
    assert button.inner_text() == "Pause"
    page.context.close()


# The checks: a healthy page, and the same with one thing broken

HEALTHY = """<!DOCTYPE html><html lang="en"><head><title>A page</title><style>
td { min-width: 4em } .scrolls { overflow-x: auto } @media print { button { display: none } }
code { overflow-wrap: anywhere } p.narrow { width: 9em }
</style></head><body><main><article><h1 id="top">A page</h1><button>Copy</button>
<p>Costs $5. <span class="math"><mjx-container><svg></svg></mjx-container></span></p>
<div class="scrolls" tabindex="0"><table><tr>CELLS</tr></table></div>
<table><tr><td>narrow</td></tr></table><pre><span class="n">one</span> <span>two</span></pre>
<a href="page.html#top">Up</a> <a href="https://example.org/elsewhere">elsewhere</a>
<img alt="A dot" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs=">
<p class="narrow">A name <code>of_a<wbr>_variable</code></p>
<img alt="A figure" src="figure.svg" width="300"> <img alt="A still" data-letters="0.03" height="99"
src="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 3 1'/>">
</article></main></body></html>""".replace("CELLS", "<td>wide</td>" * 14)
CHECKS = ("console", "requests", "overflow", "names", "letters", "mathematics", "images", "links")
CHECKS += ("accessibility", "tables")


def complaints(context, folder, html, checks):
    (folder / "page.html").write_text(html)
    figure = Figure((3, 1))
    figure.text(0, 0.5, "seven points", fontsize=7)
    figure.savefig(folder / "figure.svg")
    seen = visit(context, folder / "page.html")
    found = []
    for check in checks:
        seen.show("light", "desktop" if check == "tables" else "phone")
        found += getattr(reader, check)(seen)
    seen.page.close()
    return found


def test_a_healthy_page_has_no_complaints(context, tmp_path):
    assert complaints(context, tmp_path, HEALTHY, [*CHECKS, "paper"]) == []


@pytest.mark.parametrize(
    ("check", "old", "new", "words"),
    [
        ("console", "</main>", "</main><script>console.error('oh')</script>", "oh"),
        ("console", "</main>", "</main><script>undefined.oh</script>", "oh"),
        ("console", "</main>", "</main><script src='gone.js'></script>", "ERR_FILE_NOT_FOUND"),
        ("requests", "</main>", "</main><script src='https://example.org/a.js'></script>", "a.js"),
        ("requests", "</main>", "</main><script>fetch('http://example.org/b')</script>", "/b"),
        ("overflow", 'class="scrolls"', "", "wide"),
        ("overflow", 'class="scrolls"', 'style="overflow: hidden"', "wide"),
        ("overflow", "<h1", '<p style="width: 500px">broad</p><h1', "window"),
        ("tables", "</article>", f"<table><tr>{40 * '<td>1</td>'}</table></article>", "wider than"),
        ("tables", "<td>wide</td></tr>", f"{20 * '<td>wide</td>'}</tr>", "scrolls sideways"),
        ("names", "of_a<wbr>_variable", "of_a_variable_of_whose_name_nothing_may_break", "broken"),
        ("letters", 'width="300"', 'width="200"', "letters of 6.5 px"),
        ("letters", 'data-letters="0.03"', 'data-letters="0.02"', "letters of 5.9 px"),
        ("mathematics", "<mjx-container><svg></svg></mjx-container>", r"\(x\)", r"\(x\)"),
        ("mathematics", "<svg>", '<svg><g data-mml-node="merror"></g>', "not rendered"),
        ("mathematics", "Costs $5.", "Costs $x^2$.", "$x^2$"),
        ("images", 'alt="A dot"', 'alt="" role="none"', "no alt"),
        ("images", "A dot", "_images/0123.png", "no alt"),
        ("links", "page.html#top", "gone.html", "dead link"),
        ("links", "page.html#top", "#gone", "dead anchor"),
        ("accessibility", "<p>Costs", '<p style="color: #bbb">Costs', "color-contrast"),
        ("accessibility", 'span class="n"', 'span style="color: #bbb"', "color-contrast"),
        ("accessibility", 'tabindex="0"', 'tabindex="-1"', "scrollable-region-focusable"),
        ("paper", "@media print", "@media speech", "button"),
    ],
)
def test_one_broken_thing_is_one_complaint(check, old, new, words, context, tmp_path):
    assert HEALTHY.count(old) == 1
    assert words in complaints(context, tmp_path, HEALTHY.replace(old, new), [check])[0]
