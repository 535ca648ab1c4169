"""What figures are drawn with: the parts of matplotlib that need no backend.

in:  matplotlib, whatever MPLBACKEND says
out: Axes, Figure, LogFormatter, FT2Font, get_data_path, rc_context

Figures are drawn without pyplot, so no window and no backend is asked for. Yet matplotlib cannot be imported while
MPLBACKEND names a backend that is not installed, as in a program that a notebook of another environment starts.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

if "matplotlib" not in sys.modules:
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with suppress(ValueError):  # of a name that is not installed; one that is stays for the user's own plots
            matplotlib.rcParams["backend"] = backend

from matplotlib import get_data_path, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import LogFormatter

__all__ = ["Axes", "FT2Font", "Figure", "LogFormatter", "get_data_path", "rc_context"]
