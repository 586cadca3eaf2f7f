"""Decay by a factor at fractions of the epochs: the paper's schedule."""

from dsaccel.lr_schedules import LRSchedule


class Steps(LRSchedule):
    """The rate is multiplied by `lr_decay` after each of `lr_milestones`."""

    lr_decay: float
    lr_milestones: tuple[float, ...]

    def factor(self, epoch: int, epochs: int) -> float:
        return self.lr_decay ** sum(epoch > last for last in self.decay_epochs(epochs))

    def first_rung(self, epochs: int) -> int:
        """The epoch after the first decay; without any there is no rung."""
        decays = self.decay_epochs(epochs)
        return decays[0] + 1 if decays else epochs

    def decay_epochs(self, epochs: int) -> tuple[int, ...]:
        """The epochs (1-based) after which the learning rate decays."""
        # rounded: 0.29 * 100 is 28.999999999999996; the first epoch has the full rate
        return tuple(max(1, int(round(m * epochs, 6))) for m in self.lr_milestones)
