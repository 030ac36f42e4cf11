"""Image classification with label skew: the ground of pFedMoE and DA-PFL, small and apart."""

from isthmus.fedrec.images.data import Clients, Images, deal
from isthmus.fedrec.images.public import PUBLIC, load
from isthmus.fedrec.images.running import METHODS, Found, Settings, run

__all__ = [
    "METHODS",
    "PUBLIC",
    "Clients",
    "Found",
    "Images",
    "Settings",
    "deal",
    "load",
    "run",
]
