"""A rung: what a schedule has read when every living network has come equally far."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    epoch: int
    """Passes over the training images so far (Optuna's `step`, 1-based)."""
    accuracies: dict[str, tuple[float, ...]]
    """Validation accuracy (0..1) of each living network's heads in order of depth, the output
    layer's last."""

    def deepest_head(self, name: str) -> float:
        """What pruning ranks by: the deepest local head's accuracy; globally trained networks have
        only the output layer's.
        """
        heads = self.accuracies[name]
        return heads[-2:][0]

    def output(self, name: str) -> float:
        """The output layer's accuracy: after the last epoch, the objective."""
        return self.accuracies[name][-1]
