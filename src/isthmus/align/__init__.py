"""Alignment: the rows that the parties have in common, in one agreed order, and nothing else."""

from isthmus.align.align import PROTOCOLS, align
from isthmus.align.alignment import Alignment, AlignmentCounts
from isthmus.align.keys import Ids

__all__ = ["PROTOCOLS", "Alignment", "AlignmentCounts", "Ids", "align"]
