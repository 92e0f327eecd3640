"""How a network that starts from trained weights is to be trained: what the training loop reads from a model.

The one rule: a model that has a `fine_tuning` attribute wants its backbone held back; any other is trained as a whole.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FineTuning:
    """What is held back: `backbone` are the `.path`s of the backbone's trainable variables.

    For the first `frozen_epochs` epochs they are not updated at all; afterwards each of their updates, weight decay
    included, is multiplied by `backbone_rate`.
    """

    frozen_epochs: int
    backbone_rate: float
    backbone: tuple[str, ...]

    def rate(self, epoch: int) -> float:
        """The factor on the backbone's updates in the epoch with this index (the first is 0)."""
        return 0.0 if epoch < self.frozen_epochs else self.backbone_rate
