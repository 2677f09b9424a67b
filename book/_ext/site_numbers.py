"""Chapters have the numbers of their files, also while chapters before them are missing."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles


def number_by_file(app: Sphinx) -> None:
    """Let book/NN_slug be chapter NN: sections, figures and the side bar follow."""
    if hasattr(TocTreeCollectorWithStyles.assign_section_numbers, "by_file"):
        return
    in_turn = TocTreeCollectorWithStyles.assign_section_numbers

    def assign(self, env: BuildEnvironment) -> list[str]:
        rewrite = in_turn(self, env)
        for name, numbers in env.toc_secnumbers.items():
            if not (found := re.match(r"book/(\d\d)_", name)):
                continue
            chapter = int(found[1])
            for anchor, number in numbers.items():
                numbers[anchor] = number and (chapter, *number[1:])
            for place in [env.titles[name], *env.tocs[name].findall(nodes.reference)]:
                if place.get("secnumber"):
                    place["secnumber"] = [chapter, *place["secnumber"][1:]]
        return rewrite

    assign.by_file = True
    TocTreeCollectorWithStyles.assign_section_numbers = assign
