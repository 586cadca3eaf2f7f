"""A study from Python: `dsaccel.Study`, of which the commands are shells. See docs/python.md."""

import logging
import shlex
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from optuna import Study as OptunaStudy

from dsaccel.config.study import StudyConfig
from dsaccel.config.toml import parse_config, set_value
from dsaccel.confirm.jobs import ConfirmProgress
from dsaccel.confirm.progress import with_time_left
from dsaccel.confirm.run import Confirm
from dsaccel.data.source import DataSource
from dsaccel.errors import ConfigError, UserError
from dsaccel.files import remove_file
from dsaccel.imports import trust, words_of
from dsaccel.report.confirmation import write_confirmation
from dsaccel.report.results import write_results
from dsaccel.report.verdict import RESOLUTION
from dsaccel.search.engine import Search
from dsaccel.search.forecast import Forecast, forecast
from dsaccel.search.new_study import references_for
from dsaccel.search.outcome import after_training, before_training, check_winner, should_confirm
from dsaccel.search.progress import Progress
from dsaccel.search.setup import open_search
from dsaccel.stored_study import StoredStudy
from dsaccel.study.cleaning import unneeded
from dsaccel.study.folder import StudyDir, find_space, find_study
from dsaccel.study.storage import driving, quiet_optuna
from dsaccel.study.urls import storage_of_environment

log = logging.getLogger("dsaccel")
Callback = Callable[[Progress | ConfirmProgress], object]
Step = TypeVar("Step", Progress, ConfirmProgress)


class Study(StoredStudy):
    """A search of hierarchies: begun or continued, read, confirmed, exported.

    Whatever is done to a study is in its folder, where the commands find it too.
    """

    def __init__(
        self,
        config: StudyConfig,
        directory: StudyDir,
        *,
        data: DataSource | None = None,
        download: bool = False,
    ) -> None:
        """
        Args:
            config: as asked for, or as it was run.
            directory: where its files lie, or are going to.
            data: its images; None: those that its settings name.
            download: whether a torchvision data set may be fetched.
        """
        super().__init__(config, directory)
        self._data, self._download = data, download
        self.confirmer: Confirm | None = None

    @classmethod
    def open(
        cls,
        study: str | Path | Mapping[str, Any] = "digits",
        *,
        folder: str | Path | None = None,
        data: DataSource | None = None,
        space: str | None = None,
        settings: Mapping[str, Any] | None = None,
        download: bool = False,
    ) -> "Study":
        """A study to be searched, or continued if it stands in its folder. Reads no image yet.

        Args:
            study: the path of a study file, the name of one, or what such a file says.
            folder: where the study's files are written; None: `studies/NAME`.
            data: images in memory, as `dsaccel.ArraySource`; None: those that the settings name.
            space: a search space file, or its name, in place of the study's.
            settings: in place of the study's, by key: `{"training.epochs": 10}`.
            download: whether a torchvision data set may be fetched.

        Raises:
            ConfigError: if there is no such study, or a setting cannot be used.
        """
        name, tables = _tables(study, folder is None)
        directory = StudyDir(name) if folder is None else _directory(Path(folder))
        if space is not None:
            tables["space"] = find_space(space)
            tables["references"] = references_for(tables["space"], tables.get("references"))
        for key, value in (settings or {}).items():
            set_value(tables, key, value)
        trust(words_of(settings), Path())
        source = "the study" if isinstance(study, Mapping) else str(study)
        config = parse_config(StudyConfig, tables, source)
        if config.storage is None and not directory.is_begun:
            config = config.model_copy(update={"storage": storage_of_environment()})
        return cls(config, directory, data=data, download=download)

    @classmethod
    def load(
        cls, study: str | Path, *, data: DataSource | None = None, download: bool = False
    ) -> "Study":
        """A study that was run: by its name, its folder, or the study file that it was run from.
        It is read without its images; `data` and `download` as in `open`.

        Raises:
            ConfigError: if it was not run.
            StorageError: if its storage cannot be read.
        """
        quiet_optuna()
        text = str(study)
        if (Path(text) / "study.toml").is_file():
            directory = _directory(Path(text))
        else:
            is_name = "/" not in text and not text.endswith(".toml")
            directory = StudyDir(text if is_name else find_study(text)[0])
        if not directory.exists:
            find_study(text)  # says what is known here, if this is not
            raise ConfigError(
                f"study must be one that was run, but {directory.config} is not there; "
                f"run it with: {shlex.join(['dsaccel', 'search', text])}"
            )
        loaded = cls(directory.read_config(), directory, data=data, download=download)
        _ = loaded.optuna
        return loaded

    @property
    def optuna(self) -> OptunaStudy:
        """Optuna's study, for its plots and its dashboard.

        Raises:
            StorageError: if the storage cannot be read, or the study was not begun.
        """
        return self.engine.study if "engine" in vars(self) else super().optuna

    @cached_property
    def engine(self) -> Search:
        """The search. Asking for it reads the images, and begins or continues the study."""
        quiet_optuna()
        engine = open_search(
            self.config, self._directory, download=self._download, source=self._data
        )
        self.config = engine.config
        return engine

    def forecast(self) -> Forecast:
        """What the rest of the study takes: its next cohort, time by three timed steps, memory.
        Writes nothing.

        Raises:
            ConfigError: settings, data or a space that cannot be used.
            MismatchError: as `search`.
            StorageError: if the storage cannot be read.
        """
        quiet_optuna()
        if "engine" in vars(self):
            return Forecast.of(self.engine.bench, self.record)
        return forecast(self.config, self._directory, download=self._download, source=self._data)

    def search(
        self, *, callbacks: Sequence[Callback] = ()
    ) -> Generator[Progress | ConfirmProgress]:
        """Train until the budget is spent, the time is up, or no more hierarchies are met; confirm
        the winner then if the settings say so. Stopped and begun again, it continues.

        What is worth knowing beside is logged by the logger `dsaccel`.

        Args:
            callbacks: each is called with what is yielded, at every rung.

        Raises:
            ConfigError: settings, data or a space that cannot be used.
            MismatchError: the study exists with settings that would give other results.
            StorageError: if the storage fails, or another process trains in the study.
            NoMemoryError: if one network alone needs more memory than there is.
        """
        engine = self.engine
        for line in before_training(engine):
            log.info(line)
        if not engine.is_finished:
            if log.isEnabledFor(logging.INFO):  # it is measured
                log.info(f"plan: {self.forecast().sentence()}")
            with _written(lambda: write_results(engine)):
                yield from _told(engine.run(), callbacks)
        for line in after_training(engine):
            log.info(line)
        if should_confirm(engine):
            write_results(engine)
            again = self._directory.search_command("--confirm")
            yield from self.confirm(callbacks=callbacks, command=again)
        write_results(engine)

    def confirm(
        self,
        *,
        callbacks: Sequence[Callback] = (),
        resolution: float = RESOLUTION,
        command: str | None = None,
        runtime: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Generator[ConfirmProgress]:
        """Train the best again with fresh seeds, decide on validation, then read the test split
        once. Run again to continue, or with more seeds or finalists. See `confirmation`.

        Args:
            callbacks: each is called with what is yielded.
            resolution: the difference (0..1) whose price in seeds is told.
            command: recorded with the test readings.
            runtime: of `[runtime]`, in place of the study's: `{"workers": 2}`.
            settings: of `[confirm]`, in place of the study's: `num_seeds=5, top=3`.

        Raises:
            NoResultError: if the study has no best hierarchy.
            MismatchError: if the images are not the study's.
            ConfigError: if settings or data cannot be used.
        """
        quiet_optuna()
        tables = self.config.model_dump(mode="json", exclude_none=True)
        tables["confirm"] |= {key: value for key, value in settings.items() if value is not None}
        tables["runtime"] |= runtime or {}
        asked = parse_config(StudyConfig, tables, "confirm")
        config = self.config.model_copy(update={"runtime": asked.runtime})
        self.confirmer = confirmer = Confirm(
            *(config, self._directory, self.optuna, asked.confirm),
            command=command or "dsaccel.Study.confirm",
            download=self._download,
            source=self._data,
        )
        for line in confirmer.remarks():
            log.info(line)
        with _written(lambda: write_confirmation(confirmer, resolution)):
            yield from _told(with_time_left(confirmer), callbacks)
        write_confirmation(confirmer, resolution)
        self.report()

    def clean(self) -> dict[Path, int]:
        """Remove the files that nothing needs any more; returns them with their bytes.

        Raises:
            StorageError: if another process trains in the study.
        """
        with driving(self.optuna, self._directory):
            removed = {path: path.stat().st_size for path in unneeded(self._directory, self.record)}
            for path in removed:
                remove_file(path)
        return removed

    def check_winner(self) -> None:
        """Refuse to call a finished search done that has no winner.

        Raises:
            NoResultError: if it has none, and how to get one.
        """
        check_winner(self.engine)


def _tables(study: str | Path | Mapping[str, Any], is_nowhere: bool) -> tuple[str, dict[str, Any]]:
    """The name and the settings of a study; what has no file has no name."""
    if not isinstance(study, Mapping):
        return find_study(str(study))
    if is_nowhere:
        raise ConfigError("a study without a file needs a folder: Study.open(..., folder=)")
    tables = deepcopy(dict(study))
    trust(words_of(tables), Path())
    return "", tables


def _directory(folder: Path) -> StudyDir:
    return StudyDir(folder.resolve().name, folder.parent)


def _told(run: Generator[Step], callbacks: Sequence[Callback]) -> Generator[Step]:
    with closing(run):
        for step in run:
            for callback in callbacks:
                callback(step)
            yield step


@contextmanager
def _written(write: Callable[[], object]) -> Iterator[None]:
    """Write what there is also if the work is cut off."""
    try:
        yield
    except BaseException:
        with suppress(UserError):  # the first error is the one to tell
            write()
        raise
