"""The report's plots as SVG and PNG. Controller only: needs matplotlib, and says so of each plot where it is not there.

Output is the same, byte for byte, for the same data: no date, a fixed hash salt, the font that ships with matplotlib.
"""

from __future__ import annotations

import io

from .listed import listed
from .style import STYLE

try:
    import matplotlib

    from .collectives import bandwidth, collective_latency
    from .heatmap import heatmap
    from .latency import latency
    from .sweep import throughput_latency
    from .throughput import throughput
    from .token import token_time
except ImportError as error:
    WHY_NONE = "not drawn, since matplotlib cannot be imported (%s)" % error
    MAKERS = {}
else:
    WHY_NONE = None
    MAKERS = {
        maker.__name__: maker for maker in (throughput, latency, throughput_latency, token_time, bandwidth, collective_latency, heatmap)
    }


def draw(records):
    """Return ``[{name, title, caption, svg, png, undrawn}]`` of a run's :class:`Records`, as :func:`listed` has them.

    Bytes for ``svg`` and ``png``, None without data; ``undrawn`` is why a plot that has data is not drawn.
    """
    return [_made(*plot) for plot in listed(records)]


def _made(name, title, maker, arguments):
    data = any(item for item in arguments if isinstance(item, list))
    plot = {"name": name, "title": title, "caption": None, "svg": None, "png": None, "undrawn": WHY_NONE if data else None}
    if not MAKERS:
        return plot
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        made = MAKERS[maker](*arguments)
        if made is not None:
            figure, plot["caption"] = made
            plot["svg"], plot["png"] = _bytes(figure, "svg"), _bytes(figure, "png")
    return plot


def _bytes(figure, kind):
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()
