"""Text for the page that may hold anything, file names of strangers included."""

import html

WARNING_COLOR, ERROR_COLOR = "#b35c00", "#c92a2a"


def paragraph(text: str, color: str = "inherit") -> str:
    """The text as HTML."""
    return (
        f'<p style="margin:.4em 1em;font-size:.8em;line-height:1.35;color:{color};'
        f'overflow-wrap:anywhere">{html.escape(text)}</p>'
    )
