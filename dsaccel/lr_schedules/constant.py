"""One rate for all epochs."""

from dsaccel.lr_schedules import LRSchedule


class Constant(LRSchedule):
    """The rate stays as it is."""

    def factor(self, epoch: int, epochs: int) -> float:
        return 1.0

    def first_rung(self, epochs: int) -> None:
        return None
