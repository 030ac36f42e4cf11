"""DIN, the Deep Interest Network: a history is weighed anew for each candidate.

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018 (arXiv 1706.06978),
equation 3 and figure 2; without its Dice activation and mini-batch aware regularisation. Beside the
weighted sum of the items the upper tower takes its product with the candidate. How it is split:
`isthmus.models.histories`. Exact where history and candidate are at one party, or where the history
is sent; else a few interests (Cen et al., "ComiRec", KDD 2020) stand for the items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from isthmus.models.attention import Interests
from isthmus.models.histories import TargetReader


@dataclass(frozen=True)
class Din:
    """DIN's way of reading, see `isthmus.models.histories.Style`."""

    dim: int = 16
    """Width of the embeddings, the same at all parties."""
    tokens: int = 4
    """Interests that stand for a history whose candidate is elsewhere."""
    sent: bool = False
    """Whether such a history is sent whole instead."""
    hidden: int = 36
    """Width inside the candidate's attention."""

    def reader(self, length: int, rng: np.random.Generator) -> nn.Module:
        """The activation unit over the items."""
        del length
        return TargetReader(self.dim, self.hidden, rng)

    def digest(self, length: int, rng: np.random.Generator) -> nn.Module:
        """Interests of the items as they are."""
        return Interests(self.dim, self.tokens, length, rng)
