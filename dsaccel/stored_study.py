"""A study as it stands in its folder and its storage: read, drawn, exported; without its images."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna import Study as OptunaStudy

from dsaccel.config.study import RunConfig, StudyConfig
from dsaccel.config.toml import write_toml
from dsaccel.confirm.result import Confirmation, read_confirmation
from dsaccel.errors import NoResultError
from dsaccel.families import check_hierarchy
from dsaccel.files import check_target
from dsaccel.imports import trust
from dsaccel.nn.network import Network, drawn_network, load_network
from dsaccel.parts import load_part
from dsaccel.report.study_page import write_report
from dsaccel.search.outcome import missing_winner
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.curves import CurvePoint, read_curves
from dsaccel.study.export import run_config, trial_config
from dsaccel.study.folder import StudyDir
from dsaccel.study.kept import kept_path
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, best_row, best_trial, find_trial, read_rows
from dsaccel.study.storage import open_study

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingImports]
    import plotly.graph_objects as go


class StoredStudy:
    """A study that is read, and not trained."""

    def __init__(self, config: StudyConfig, directory: StudyDir) -> None:
        self.config, self._directory = config, directory

    @property
    def name(self) -> str:
        return self._directory.name

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self._directory.path

    @property
    def optuna(self) -> OptunaStudy:
        """Optuna's study, for its plots and its dashboard.

        Raises:
            StorageError: if the storage cannot be read, or the study was not begun.
        """
        return self._stored

    @property
    def record(self) -> StudyRecord:
        """The study's trials and figures by now, typed."""
        return StudyRecord.read(self.optuna, self._directory)

    @cached_property
    def _stored(self) -> OptunaStudy:
        return open_study(self._directory, self.config)

    @property
    def best(self) -> Row | None:
        """The best hierarchy within the constraint, by validation; None: there is none yet."""
        return best_row(self.trials())

    def trials(self) -> list[Row]:
        """All trials, the best first."""
        return read_rows(self.record)

    def curves(self) -> list[CurvePoint]:
        """What was read of each head after each epoch: of every trial, and of what was trained by
        back-propagation beside it. Training accuracy and losses are there where they were recorded:
        of references and global baselines, and of all with `runtime.curves`.
        """
        return read_curves(self.record)

    def to_frame(self) -> "pd.DataFrame":
        """The trials as a data frame.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas as pd  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ImportError("to_frame needs pandas: pip install pandas") from None
        return pd.DataFrame([vars(row) for row in self.trials()])

    def __repr__(self) -> str:
        if not self._directory.exists:
            return f"<Study {self.name}: not begun>"
        best = self.best
        shown = "no best yet" if best is None else f"best {best.hierarchy} {best.accuracy:.4f}"
        return f"<Study {self.name}: {len(self.trials())} trials, {shown}>"

    @property
    def confirmation(self) -> Confirmation | None:
        """The result of the confirmation; None: there was none."""
        return read_confirmation(self.record)

    def figure(self, name: str, **options: Any) -> "go.Figure":
        """A picture of the study, for plotly. Without data it says what the study lacks for it.

        Args:
            name: of a figure of the page, or the import path of your own.
            options: of the figure.

        Raises:
            ConfigError: if there is no such figure, or it has no such options.
        """
        trust([name], Path())
        return load_part("figure", name, options).picture(self.record)

    def report(self, path: str | Path | None = None, *, figures: Sequence[str] = ()) -> Path:
        """Write the study's page, which needs no network.

        Args:
            path: the file; None: `report.html` in the study's folder.
            figures: import paths of your own, which follow the shipped ones.

        Raises:
            ConfigError: if there is no such folder or figure.
        """
        trust(figures, Path())
        target = self._directory.report if path is None else Path(path)
        check_target(target)
        write_report(self.record, target, figures)
        return target

    def run_config(self, hierarchy: str | None = None) -> RunConfig:
        """The settings that train a hierarchy as the search did; None: the best.

        Raises:
            ConfigError: if the family has no such network.
            NoResultError: if there is no best hierarchy.
        """
        if hierarchy is None:
            trial = best_trial(self.record)
            if trial is None:
                raise missing_winner(self._directory, self.config, self.record)
        else:
            trial = find_trial(self.record, Hierarchy.parse(hierarchy))
        if trial is not None:
            return trial_config(self.config, self.record, trial)
        check_hierarchy(self.config.family, Hierarchy.parse(str(hierarchy)))
        return run_config(self.config, str(hierarchy), None)

    def export(
        self, path: str | Path, hierarchy: str | None = None, *, force: bool = False
    ) -> RunConfig:
        """Write `run_config(hierarchy)`, for `dsaccel train` and `build_network`.

        Raises:
            ConfigError: if there is such a file and not `force`, or no such folder.
            NoResultError: as `run_config`.
        """
        target = Path(path)
        check_target(target, force=force)
        run = self.run_config(hierarchy)
        write_toml(target, run)
        return run

    def trained_network(self, hierarchy: str | None = None) -> Network:
        """The network of a hierarchy with the weights that the study has kept; None: of the best.

        Raises:
            NoResultError: if it has kept none of it.
        """
        rows = [row for row in self.trials() if hierarchy in (None, row.hierarchy)]
        path = kept_path(self._directory, rows[0].trial) if rows else None
        if path is None or not path.is_file():
            raise NoResultError(
                f"the weights of {hierarchy or 'the best hierarchy'} must have been kept in "
                f"{self._directory.weights}, but were not: a search keeps those of the best "
                "runtime.keep (--keep) hierarchies; others are trained again by dsaccel train"
            )
        return load_network(path)

    def network(self, hierarchy: str | None = None) -> Network:
        """The network of a hierarchy with drawn weights, in training mode; None: of the best.

        Raises:
            ConfigError: as `run_config`.
            NoResultError: as `run_config`.
        """
        num_classes = self.record.num_classes
        assert num_classes is not None
        return drawn_network(self.run_config(hierarchy), num_classes, self._directory.config)
