"""How the report's plots look: colours, fonts, and where things are. Controller only: needs matplotlib.

Colours are Okabe and Ito's (the purple is Tol's, which is dark enough for text), told apart with any colour vision.
"""

from __future__ import annotations

INK, MUTED, GRID, PAPER = "#1f2933", "#5f6b7a", "#dde3ea", "#ffffff"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#aa3377", "#56b4e9", "#e69f00", "#7f7f7f")
SCOPE_COLOURS = {"within": "#0072b2", "across": "#d55e00"}

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",
}
# Inches. On the page a layout plot has the whole width and a collective half of it: text is then 13 to 14 pixels high.
WIDTH, HALF = 11.0, 6.5


def heading(figure, title, subtitle):
    """Write a title and, smaller, what the plot shows, at the top left of the figure."""
    figure.text(0.012, 1 - 0.10 / figure.get_figheight(), title, fontsize=13, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.38 / figure.get_figheight(), subtitle, fontsize=9.5, color=MUTED, va="top")


def margins(figure, left, right, top=0.85, bottom=0.62):
    """Place the axes by inches from the figure's edges."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left=left / width, right=1 - right / width, top=1 - top / height, bottom=bottom / height)


def clip(text, limit):
    """Return text as matplotlib may draw it, cut to ``limit`` characters."""
    # A "$" would start matplotlib's mathematics.
    text = "".join(char if char.isprintable() else "?" for char in text).replace("$", r"\$")
    return text if len(text) <= limit else text[: limit - 1] + "…"
