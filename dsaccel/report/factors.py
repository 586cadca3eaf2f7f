"""The factorial study on a terminal, as a page and in files."""

from typing import Any

from dsaccel.files import make_folder, write_csv, write_json
from dsaccel.paper.factors import Factors
from dsaccel.paper.rows import WAYS, Row
from dsaccel.paper.train import Reproduction
from dsaccel.report.effects import effect_record, effects_figure, effects_table
from dsaccel.report.page import Section, write_page
from dsaccel.report.reproduction import SPLITS, in_hundreds
from dsaccel.report.table import Table
from dsaccel.statistics import summarise

HEADINGS = ("network", "FLOPs", "layer-wise", "back-propagation", "deep supervision")
CAPTION = "accuracies of the output layer in %, mean ± standard deviation over seeds"


class FactorsReport:
    """What is shown of the factorial study.

    Args:
        scale: the name of the scale.
        reproduction: of its arms.
    """

    def __init__(self, scale: str, reproduction: Reproduction) -> None:
        self._reproduction = reproduction
        self._factors = Factors.of(reproduction)
        self.title = f"Convolutions, losses or resolution, at scale {scale}: {reproduction.scale}"

    @property
    def about(self) -> str:
        """Describe the arms."""
        return (
            f"ResNet18 as of Table V, {self._reproduction.scale.recipe}. Images of "
            f"{self._reproduction.data_names}; "
            f"accuracies are of {SPLITS[self._reproduction.protocol]}. Coarse: one loss at the end "
            "of each shallow stage in place of one a convolution. Late: the first loss in the "
            "second stage. Both: one loss in the shallow stages, at the end of the second. "
            "Uniform: all stages as wide as the first, so that hierarchies of equally many blocks "
            "differ in where the strides are; matched: as wide as gives equal FLOPs. Deep "
            "supervision has all losses and no cuts. An effect is what a change closes of the "
            "distance to "
            "back-propagation on the same network."
        )

    def table(self) -> Table:
        """A row for each arm."""
        rows = [self._cells(row) for row in self._factors.rows]
        return Table(HEADINGS, rows, words=(0,), caption=CAPTION)

    def sentences(self) -> list[str]:
        """The plain answer."""
        return self._factors.answer()

    def summary(self) -> dict[str, Any]:
        """What `--json` prints."""
        accuracies = [
            {"network": name, "way": way, "by_seed": dict(by_seed)}
            for (name, way), by_seed in self._factors.accuracies.items()
        ]
        return {
            "experiment": "factors",
            "title": self.title,
            "protocol": self._reproduction.protocol,
            "data": self._reproduction.data_names,
            "seeds": list(self._reproduction.seeds),
            "accuracies": accuracies,
            "effects": [effect_record(effect) for effect in self._factors.effects()],
            "answer": self.sentences(),
        }

    def write(self) -> dict[str, str]:
        """Write the page and the files beside it; their paths."""
        folder = self._reproduction.directory.path
        make_folder(folder)
        effects = self._factors.effects()
        sections = [
            Section("Answer", lines=self.sentences()),
            Section(
                "Effects",
                "Points of the gap that a change closes; bars are 95 % intervals.",
                table=effects_table(effects),
                figure=effects_figure(effects),
                name="effects",
            ),
            Section("Networks", table=self.table()),
        ]
        page, as_json, as_csv = (folder / f"factors.{suffix}" for suffix in ("html", "json", "csv"))
        write_page(page, self.title, sections, about=self.about)
        write_json(as_json, self.summary())
        lines = [
            {"network": name, "way": way, "seed": seed, "accuracy": accuracy}
            for (name, way), by_seed in self._factors.accuracies.items()
            for seed, accuracy in by_seed.items()
        ]
        write_csv(as_csv, lines)
        paths = {"page": page, "json": as_json, "accuracies": as_csv}
        return {label: path.as_posix() for label, path in paths.items()}

    def _cells(self, row: Row) -> tuple[str, ...]:
        found = (self._factors.accuracies.get((row.model, way), {}) for way in WAYS)
        shown = (in_hundreds(summarise(list(a.values())) if a else None) for a in found)
        return (row.model, f"{self._reproduction.flops(row) / 1e6:.1f} M", *shown)
