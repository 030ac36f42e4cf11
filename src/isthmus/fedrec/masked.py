"""Which algorithms a secure sum goes with, and which run between devices, found by building each
on a handful of clients.
"""

from __future__ import annotations

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec.devices.abilities import check_masked, check_method
from isthmus.fedrec.options import recipe
from isthmus.fedrec.population import Interactions
from isthmus.fedrec.privacy.defences import Defences
from isthmus.fedrec.protocols import PROTOCOLS, make_task
from isthmus.fedrec.task import Task

_CLIENTS, _EACH = 4, 4


def takes_secure_sum(name: str) -> bool:
    """Whether the algorithm called `name` runs with `Defences(secure_sum=True)`.

    Raises:
        JobError: there is no such algorithm.
    """
    chosen = recipe(name)
    try:
        chosen.build(Defences(secure_sum=True, masks_left_out=True).protect(_handful()))
    except JobError:
        return False
    return True


def runs_on_devices(name: str, *, masked: bool = False) -> bool:
    """Whether `serve` runs the algorithm called `name`, or runs it with `--secure-sum`.

    Raises:
        JobError: there is no such algorithm.
    """
    chosen = recipe(name)
    method = chosen.build(_handful())
    try:
        check_method(method, chosen.algorithm)
        if masked:
            check_masked(chosen.algorithm, method)
    except JobError:
        return False
    return True


def _handful() -> Task:
    user = np.repeat(np.arange(_CLIENTS), _EACH)
    item = (user + np.tile(np.arange(_EACH), _CLIENTS)) % (_CLIENTS + _EACH)
    data = Interactions("a handful", _CLIENTS, _CLIENTS + _EACH, user, item, "time")
    return make_task(data, PROTOCOLS["honest-sampled"], 0)
