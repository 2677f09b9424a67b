"""Pictures of memories: one style, image grids, energy traces, landscapes, movies, sliders.

Nothing here knows a model: everything takes arrays, tensors or callables.
"""

from .figures import (
    energy_trace,
    figure,
    image_grid,
    interval_band,
    landscape,
    landscape_1d,
    measured,
    theory,
)
from .glue import glue
from .movies import recall_movie
from .style import ENERGY_CMAP, PALETTE, use_style
from .widgets import explore

__all__ = [
    "ENERGY_CMAP",
    "PALETTE",
    "energy_trace",
    "explore",
    "figure",
    "glue",
    "image_grid",
    "interval_band",
    "landscape",
    "landscape_1d",
    "measured",
    "recall_movie",
    "theory",
    "use_style",
]
