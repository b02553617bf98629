"""Showing text that somebody else wrote: as text. Nothing from a ledger is ever read as markdown, HTML or a formula.

Three places, three dangers: markdown (remote images, links, colours, formulas) takes :func:`escape_markdown`; Plotly's
pseudo-HTML (links, line breaks) takes :func:`figure_text`; spreadsheets (formulas) take ``units.spreadsheet_text``.
Where a whole element is user text, prefer ``st.text``.
"""

from __future__ import annotations

import html
import re

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:^&=])")
#: Parts what Streamlit would still find in escaped text (addresses, e-mail, icons, emoji), unseen.
_JOINER = "\u2060"
_WWW = re.compile(r"(?i)\bwww(?=\\\.)")
_LINES = re.compile(r"\s*[\r\n\u2028\u2029\v\f]+\s*")
_INVISIBLE = re.compile(r"[\u0000-\u0008\u000e-\u001f\u007f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def one_line(text: object) -> str:
    """``text`` on one line, without control characters and marks that turn the direction of what follows."""
    return _INVISIBLE.sub("", _LINES.sub(" ", str(text))).strip()


def shortened(text: object, limit: int = 40) -> str:
    """``text`` on one line, at most ``limit`` characters, with an ellipsis where it was cut."""
    line = one_line(text)
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def escape_markdown(text: object) -> str:
    """``text`` so that Streamlit's markdown shows it character by character: no image, link, icon or formula."""
    escaped = _MARKDOWN.sub(r"\\\1", one_line(text))
    parted = escaped.replace(":", ":" + _JOINER).replace("@", _JOINER + "@")
    return _WWW.sub(lambda found: found[0] + _JOINER, parted)


def figure_text(text: object, limit: int = 60) -> str:
    """``text`` for a figure's names, ticks and hover: Plotly's tags shown, not obeyed."""
    return html.escape(shortened(text, limit), quote=False)


def figure_paragraph(text: object, width: int = 48, lines: int = 4) -> str:
    """Longer text for a hover box, broken at words; what does not fit ends in an ellipsis."""
    rows: list[str] = []
    for word in one_line(text).split(" "):
        if rows and len(rows[-1]) + 1 + len(word) <= width:
            rows[-1] += f" {word}"
        else:
            rows.append(shortened(word, width))
    if len(rows) > lines:
        rows = [*rows[: lines - 1], shortened(rows[lines - 1], width - 1) + "…"]
    return "<br>".join(html.escape(row, quote=False) for row in rows)


def title_of(name: str) -> str:
    """An identifier as a label: ``basic_annual`` → 'Basic annual'. Names that are not identifiers stay as they are."""
    if re.fullmatch(r"[a-z][a-z0-9_]*", name):
        words = name.replace("_", " ")
        return words[0].upper() + words[1:]
    return name


def sentence_list(names: list[str], limit: int = 3) -> str:
    """Names in a sentence: 'a, b and 4 more'."""
    if not names:
        return "none"
    shown = names[:limit]
    if len(names) > limit:
        return f"{', '.join(shown)} and {len(names) - limit} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
