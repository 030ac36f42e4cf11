"""What keeps uploads from telling on clients: pseudo-items, noise, and sums under masks.

Which of these protects what, against whom, stands in docs/fedrec/privacy.md.
"""

from isthmus.fedrec.privacy.accounting import epsilon_of
from isthmus.fedrec.privacy.bound import NormBound
from isthmus.fedrec.privacy.defences import Defences
from isthmus.fedrec.privacy.noise import LocalNoise
from isthmus.fedrec.privacy.pseudo_items import PseudoItems
from isthmus.fedrec.privacy.secure_sum import SecureSum

__all__ = [
    "Defences",
    "LocalNoise",
    "NormBound",
    "PseudoItems",
    "SecureSum",
    "epsilon_of",
]
