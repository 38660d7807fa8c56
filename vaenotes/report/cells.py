"""What stands in the cells of the book's tables, and the dress that all tables wear."""

import re
from html import escape

import pandas as pd
from pandas.io.formats.style import Styler

from vaenotes.lab.summary import Interval

IDENTIFIER = re.compile(r"(?<=<code>)[^<\s]+(?=</code>)")


def text(interval: Interval | None) -> str:
    """An interval for reading: value, 95% interval, number of replicas."""
    if interval is None or interval.replicas == 0:
        return "–"
    value, low, high, replicas = interval
    return f"{value:.3g} ({low:.3g}\u00a0to\u00a0{high:.3g}), n\u00a0=\u00a0{replicas}"


def narrow(interval: Interval | None) -> str:
    """As `text`, but broken anywhere between words: many columns have to fit on paper."""
    return text(interval).replace("\u00a0", " ")


def stacked(*lines: str) -> str:
    """The first line, and the others below it in small print."""
    return "".join([lines[0], *(f"<br><small>{line}</small>" for line in lines[1:])])


def code(name: str) -> str:
    """The name of a finding, which has that of an arm: it is anybody's."""
    return f"<code>{escape(name)}</code>"


def reason(because: str) -> str:
    return f"<i>{escape(because)}</i>"


def breakable(cell: str) -> str:
    """A cell whose identifiers may be broken behind their dots, dashes and underscores."""
    return IDENTIFIER.sub(lambda name: re.sub(r"(?<=[._-])(?=\w)", "<wbr>", name[0]), cell)


def styled(frame: pd.DataFrame, index: bool = False) -> Styler:
    """A table in the dress of all tables of the book; its index is hidden unless asked for."""
    words = [name for name in frame if frame[name].map(type).eq(str).all()]
    styled = frame.style.set_table_attributes('class="dataframe"').format(breakable, subset=words)
    for axis in (0, 1):
        styled.format_index(
            escape="html", axis=axis
        )  # where names of arms and factors stand, which are anybody's
    return styled if index else styled.hide(axis="index")
