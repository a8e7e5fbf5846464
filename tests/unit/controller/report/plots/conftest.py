"""What the tests of plots share."""

from __future__ import annotations

import pytest


@pytest.fixture
def texts():
    """Return all that is written in a figure and on its axes, ticks left out."""

    def read(figure):
        found = [item.get_text() for item in figure.texts]
        for axes in figure.axes:
            found += [axes.get_xlabel(), axes.get_ylabel(), *(item.get_text() for item in axes.texts)]
        return found

    return read
