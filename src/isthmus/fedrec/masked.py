"""Which algorithms a secure sum goes with, found by building each on a handful of clients."""

from __future__ import annotations

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec.options import recipe
from isthmus.fedrec.population import Interactions
from isthmus.fedrec.privacy.defences import Defences
from isthmus.fedrec.protocols import PROTOCOLS, make_task

_CLIENTS, _EACH = 4, 4


def takes_secure_sum(name: str) -> bool:
    """Whether the algorithm called `name` runs with `Defences(secure_sum=True)`.

    Raises:
        JobError: there is no such algorithm.
    """
    user = np.repeat(np.arange(_CLIENTS), _EACH)
    item = (user + np.tile(np.arange(_EACH), _CLIENTS)) % (_CLIENTS + _EACH)
    data = Interactions("a handful", _CLIENTS, _CLIENTS + _EACH, user, item, "time")
    chosen, task = recipe(name), make_task(data, PROTOCOLS["honest-sampled"], 0)
    try:
        chosen.build(Defences(secure_sum=True, masks_left_out=True).protect(task))
    except JobError:
        return False
    return True
