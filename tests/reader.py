"""What a reader would complain of in a page: one function per check, each returns complaints.

They look at a page that is open in Debian's Chromium, as it stands after its scripts have run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse
from xml.etree import ElementTree

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Route, sync_playwright

CHROMIUM = shutil.which("chromium")
WIDTHS = {"desktop": 1280, "phone": 390}
HEIGHT = 900
A4 = 680  # px between margins of 15 mm
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
# Two frames on, the page has heard of a change; what fades in has to be there; a while later the
# theme counts again what scrolls, to let a keyboard reach it.
SETTLED = """(async () => {
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
    await Promise.allSettled(document.getAnimations().map(animation => animation.finished));
    const places = "pre[tabindex='-1'], .cell_output > .output[tabindex='-1']";
    const missed = () => [...document.querySelectorAll(places)]
        .some(e => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight);
    for (let i = 0; i < 200 && missed(); i++) await new Promise(done => setTimeout(done, 50));
})()"""


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """A browser that can reach nothing but this machine."""
    flags = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]
    flags += ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser.new_context(reduced_motion="reduce")
        browser.close()


class Visit:
    """A page open in the browser, with all that it said and asked for since it was opened."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_viewport_size({"width": WIDTHS["phone"], "height": HEIGHT})
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        own = urlparse(address).netloc  # empty for a file
        self.page.route(lambda url: urlparse(url).netloc not in ("", own), self._no)
        self.page.goto(address)
        self.page.evaluate("window.MathJax?.startup?.promise")

    def _no(self, route: Route) -> None:
        self.requests.append(route.request.url)
        route.fulfill(body="")  # an aborted request would be a console error as well

    def show(self, scheme: str, width: str) -> None:
        """Change the window to that colour scheme and width."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": WIDTHS[width], "height": HEIGHT})
        self.page.evaluate(SETTLED)

    def open_details(self) -> None:
        """Show the code of hidden cells."""
        self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        self.page.evaluate(SETTLED)


def console(visit: Visit) -> list[str]:
    return [f"console error: {text}" for text in visit.errors]


def requests(visit: Visit) -> list[str]:
    return [f"external request: {url}" for url in visit.requests]


def overflow(visit: Visit) -> list[str]:
    """What is wider than its place, without a scroll bar of its own."""
    return visit.page.evaluate("""() => {
        const complaints = [], html = document.documentElement;
        if (html.scrollWidth > html.clientWidth)
            complaints.push(`the page is wider than the window: ${html.scrollWidth} px`);
        const article = document.querySelector("article") ?? document.querySelector("main");
        const style = e => getComputedStyle(e).overflowX;
        const name = e => `<${e.localName} class="${e.className}"> ${e.textContent.slice(0, 40)}`;
        const scrolls = e => /auto|scroll/.test(style(e));
        const parts = "table, figure, img, svg:not(mjx-container *), pre, input, mjx-container";
        for (const e of article.querySelectorAll(parts)) {
            const box = e.getBoundingClientRect();
            if (!box.width || scrolls(e)) continue;
            let complaint = null;
            if (e.localName === "pre" && e.scrollWidth > e.clientWidth)
                complaint = `wider than itself: ${name(e)}`;
            for (let place = e.parentElement; ; place = place.parentElement) {
                if (scrolls(place)) { complaint = null; break; }
                const room = place.getBoundingClientRect();
                if (box.right > room.right + 1 || box.left < room.left - 1)
                    complaint ??= `too wide by ${box.width - room.width | 0} px: ${name(e)}`;
                // What is cut off here is lost, whoever scrolls further out.
                if (place === article || complaint && style(place) !== "visible") break;
            }
            if (complaint) complaints.push(complaint);
        }
        return complaints;
    }""")


def tables(visit: Visit) -> list[str]:
    """At a desk: tables that are wider than the text, or that have to be scrolled sideways."""
    return visit.page.evaluate(
        """wide => {
        if (innerWidth < wide) return [];
        const article = document.querySelector("article") ?? document.querySelector("main");
        const room = article.getBoundingClientRect();
        return [...article.querySelectorAll("table")].flatMap(table => {
            const box = table.getBoundingClientRect(), name = table.textContent.trim().slice(0, 40);
            if (!box.width) return [];
            for (let place = table; place !== article; place = place.parentElement) {
                const hidden = place.scrollWidth - place.clientWidth;
                if (/auto|scroll/.test(getComputedStyle(place).overflowX) && hidden > 1)
                    return [`scrolls sideways by ${hidden} px: ${name}`];
            }
            return box.right > room.right + 1 ? [`wider than the text: ${name}`] : [];
        });
    }""",
        WIDTHS["desktop"],
    )


def names(visit: Visit) -> list[str]:
    """Identifiers that are broken over lines where nothing says that they may be: a <wbr> ends a
    text, after a zero-width space or a hyphen a line may end."""
    return visit.page.evaluate("""() => {
        const top = (text, i) => {
            const range = document.createRange();
            range.setStart(text, i), range.setEnd(text, i + 1);
            return range.getClientRects()[0]?.top;
        };
        return [...document.querySelectorAll("code")].flatMap(code => {
            if (code.closest("pre") || /\\s/.test(code.textContent.trim())) return [];
            if (code.getClientRects().length < 2 && code.offsetHeight < 2 * parseFloat(
                getComputedStyle(code).fontSize)) return [];
            const walk = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
            for (let text = walk.nextNode(); text; text = walk.nextNode())
                for (let i = 1; i < text.data.length; i++)
                    if (!/[-\\u200b]/.test(text.data[i - 1]) && top(text, i) > top(text, i - 1) + 3)
                        return [`broken name: ${text.data.slice(0, i)} | ${text.data.slice(i)}`];
            return [];
        });
    }""")


SMALLEST = {"desktop": 9, "phone": 7}
"""Pixels that the letters of a figure have at least."""


@cache
def letters_of(svg: Path) -> float:
    """The size of the smallest letters in a figure of matplotlib's, as a share of its width; 0 if
    it has none. Its letters are paths, of 100 units a size, in groups that scale them."""
    root = ElementTree.parse(svg).getroot()
    sizes: list[float] = []

    def walk(node: ElementTree.Element, scale: float, inside: bool) -> None:
        tag = node.tag.rpartition("}")[2]
        if tag == "defs":
            return
        inside = inside or node.get("id", "").startswith("text_")
        for factor in re.findall(r"scale\(([-\d.e]+)", node.get("transform", "")):
            scale *= abs(float(factor))
        if tag == "use" and inside:
            sizes.append(100 * scale)
        for child in node:
            walk(child, scale, inside)

    walk(root, 1, False)
    width = float(root.get("viewBox", "0 0 1 1").split()[2])
    return min(sizes, default=0) / width


def letters(visit: Visit) -> list[str]:
    """Figures whose letters are too small to be read; pictures say their own size."""
    shown = visit.page.evaluate("""() => [...document.images].map(image => [
        image.src, image.getBoundingClientRect().width, Number(image.dataset.letters ?? 0)
    ]).filter(([source, width, letters]) => width && (letters || source.endsWith(".svg")))""")
    size = visit.page.viewport_size
    assert size is not None
    least = SMALLEST["desktop" if size["width"] >= WIDTHS["desktop"] else "phone"]
    complaints = []
    for source, width, share in shown:
        if not share and urlparse(source).scheme == "file":
            share = letters_of(Path(unquote(urlparse(source).path)))
        if share and share * width < least - 0.05:
            name = source[:60] if source.startswith("data:") else source.rpartition("/")[2]
            complaints.append(f"letters of {share * width:.1f} px, {width:.0f} px wide: {name}")
    return complaints


def mathematics(visit: Visit) -> list[str]:
    """Formulas that are still TeX, or that MathJax did not understand."""
    return visit.page.evaluate("""() => {
        const complaints = [];
        for (const e of document.querySelectorAll(".math"))
            if (!e.querySelector("mjx-container svg") || e.querySelector("[data-mml-node=merror]"))
                complaints.push(`not rendered: ${e.textContent.trim()}`);
        const prose = document.body.cloneNode(true);
        prose.querySelectorAll("pre, code, script, .math").forEach(e => e.remove());
        for (const tex of prose.textContent.match(/\\$[^\\s$][^$]*\\$|\\\\[([].*/g) ?? [])
            complaints.push(`not even seen as mathematics: ${tex}`);
        return complaints;
    }""")


def images(visit: Visit) -> list[str]:
    """Images that do not show, or that say nothing to who cannot see them."""
    return visit.page.evaluate("""() => [...document.images].flatMap(image => {
        const name = image.getAttribute("src").slice(0, 80), alt = (image.alt ?? "").trim();
        if (!image.naturalWidth && image.getAttribute("src")) return [`does not load: ${name}`];
        return alt && !/^\\S+\\.(png|svg|jpe?g|gif)$/.test(alt) ? [] : [`no alt text: ${name}`];
    })""")


def paper(visit: Visit) -> list[str]:
    """What is printed though only a screen can use it. Leaves the page as wide as A4's text."""
    visit.page.emulate_media(media="print")
    visit.page.set_viewport_size({"width": A4, "height": HEIGHT})
    return visit.page.evaluate("""() =>
        [...document.querySelectorAll("button, input, dialog, [class*=sidebar] nav, summary")]
            .filter(e => e.checkVisibility() && e.getBoundingClientRect().width)
            .map(e => `printed: ${e.outerHTML.slice(0, 80)}`)
    """)


@cache
def anchors(page: Path) -> set[str]:
    return set(re.findall(r'\b(?:id|name)="([^"]+)"', page.read_text()))


def links(visit: Visit) -> list[str]:
    """Links to files or anchors that do not exist. The page must be open over file://."""
    complaints = []
    addresses = visit.page.evaluate("[...document.links].map(link => link.href)")
    for address in dict.fromkeys(addresses):
        url, anchor = urldefrag(address)
        if urlparse(url).scheme != "file":
            continue
        target = Path(unquote(urlparse(url).path))
        if not target.is_file():
            complaints.append(f"dead link: {target}")
        elif anchor and target.suffix == ".html" and unquote(anchor) not in anchors(target):
            complaints.append(f"dead anchor: {target}#{anchor}")
    return complaints


def accessibility(visit: Visit, exceptions: dict[str, str] | None = None) -> list[str]:
    """What axe-core finds at WCAG 2 A and AA, less exceptions: by rule, what the element says.

    Thousands of elements would take it long: formulas are left to MathJax, which brings a text of
    its own for screen readers, and of the tokens of code and signatures one of a kind is looked at.
    """
    options = {
        "runOnly": {"type": "tag", "values": WCAG},
        "resultTypes": ["violations"],
        "preload": False,  # of style sheets, for rules that are not asked for
    }
    visit.page.evaluate("""() => {
        const seen = new Set(), code = "pre, dt.sig";
        const parts = `mjx-container svg, mjx-assistive-mml, ${code}`;
        window.whole = [...document.querySelectorAll(parts)].map(e => [e, [...e.childNodes]]);
        for (const [e] of whole) {
            const short = e.cloneNode(e.matches(code));
            for (const token of short.querySelectorAll("span, em")) {
                const kind = e.localName + token.className + getComputedStyle(e).backgroundColor;
                if (seen.has(kind)) token.replaceWith(...token.childNodes);
                seen.add(kind);
            }
            e.replaceChildren(...short.childNodes);
        }
    }""")
    found = Axe().run(visit.page, {"exclude": [["mjx-container"]]}, options).response
    visit.page.evaluate("for (const [e, parts] of whole) e.replaceChildren(...parts)")
    return [
        f"axe-core: {violation['id']}: {node['html'][:120]} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
        if (exceptions or {}).get(violation["id"], "nothing") not in node["html"]
    ]
