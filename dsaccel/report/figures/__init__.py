"""The figures of a study, in the order of its page: a file each, and its line here."""

from dsaccel.report.figures.confirmation import CONFIRMATION
from dsaccel.report.figures.depth import DEPTH
from dsaccel.report.figures.heads import HEADS
from dsaccel.report.figures.hierarchies import HIERARCHIES
from dsaccel.report.figures.history import HISTORY
from dsaccel.report.figures.parameters import PARAMETERS
from dsaccel.report.figures.style import StudyFigure

FIGURES: tuple[StudyFigure, ...] = (
    CONFIRMATION,
    HISTORY,
    HIERARCHIES,
    PARAMETERS,
    HEADS,
    DEPTH,
)
