"""Errors that a user can mend: a message that says what was expected, what was found and the way
out, and the exit code that the command line ends with.
"""


class UserError(Exception):
    exit_code = 1


class ConfigError(UserError, ValueError):
    """A setting, file or argument that cannot be used."""

    exit_code = 2


class CompilerError(ConfigError):
    """`training.compile` does not work here, or not with a part: no single network's fault."""


class NoResultError(UserError):
    """A study without a finished feasible hierarchy, or other results that were asked for."""

    exit_code = 3


class StorageError(UserError):
    """A storage or a file cannot be used, or another process trains in the study."""

    exit_code = 4


class WorkerError(UserError):
    """A worker cannot be reached, is not fit for the study, or is lost again and again."""

    exit_code = 4


class MismatchError(UserError):
    """A study exists already, with settings or images that would give other results."""

    exit_code = 5


class NoMemoryError(UserError):
    """One network alone needs more memory than there is."""

    exit_code = 6
