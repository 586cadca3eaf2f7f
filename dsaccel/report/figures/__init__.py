"""The figures of a study, a file each: a picture, and the words around it on the study's page."""

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import plotly.graph_objects as go

from dsaccel.config import section
from dsaccel.parts import BUILTIN, load_part
from dsaccel.report.page import Section
from dsaccel.study.record import StudyRecord


class Figure(section.Section):
    """A kind of figure: its docstring is the caption, its fields are its options."""

    title: ClassVar[str] = ""
    """`{step}` stands for what a rung of the study comes after: an epoch, or a stage."""
    needs: ClassVar[str] = "a first accuracy"
    """The thing that a study must have before there is something to draw."""

    @abstractmethod
    def draw(self, study: StudyRecord) -> go.Figure:
        """The picture. It has no data while the study lacks what it `needs`."""

    def more(self, study: StudyRecord) -> Mapping[str, Any]:
        """Other fields of the picture's `Section`, for what the page shows beside it."""
        return {}

    def picture(self, study: StudyRecord) -> go.Figure:
        """The picture, which says what is missing if there is nothing to draw."""
        figure = self.draw(study)
        if not figure.data:
            figure.add_annotation(
                text=f"Nothing to draw yet: this figure needs {self.needs}.",
                **{"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False},
            )
        return figure

    def section(self, study: StudyRecord, name: str) -> Section | None:
        """A piece of the study's page; None if there is nothing to draw."""
        figure = self.draw(study)
        if not figure.data:
            return None
        caption = " ".join((inspect.getdoc(type(self)) or "").split())
        title = self.title.format(step=study.step_name)
        return Section(title, caption, figure=figure, name=name, **self.more(study))


def figure_sections(study: StudyRecord, own: Sequence[str] = ()) -> Iterator[Section]:
    """The pieces of a study's page: the shipped figures, then the user's own ones.

    Args:
        study: what is drawn.
        own: import paths of figures.

    Raises:
        ConfigError: as `load_part`.
    """
    for name in (*BUILTIN["figure"], *own):
        figure: Figure = load_part("figure", name)
        place = name.rpartition(":")[2]  # the class, of an import path
        if (drawn := figure.section(study, place)) is not None:
            yield drawn
