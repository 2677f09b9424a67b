"""Pictures of memories: one style, image grids, energy traces, landscapes, movies, sliders.

Nothing here knows a model: everything takes arrays, tensors or callables.
"""

from .diagram import hypergraph
from .figures import (
    curves,
    energy_trace,
    figure,
    image,
    image_grid,
    interval_band,
    landscape,
    landscape_1d,
    mark_memories,
    measured,
    theory,
    thumbnails,
)
from .glue import glue
from .movies import recall_movie
from .style import PALETTE, energy_map, ink_on_paper, shades, use_style
from .widgets import explore

__all__ = [
    "PALETTE",
    "curves",
    "energy_map",
    "energy_trace",
    "explore",
    "figure",
    "glue",
    "hypergraph",
    "image",
    "image_grid",
    "ink_on_paper",
    "interval_band",
    "landscape",
    "landscape_1d",
    "mark_memories",
    "measured",
    "recall_movie",
    "shades",
    "theory",
    "thumbnails",
    "use_style",
]
