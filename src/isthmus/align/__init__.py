"""Alignment: the rows that the parties have in common, in one agreed order, and nothing else."""

from isthmus.align.align import PROTOCOLS, align
from isthmus.align.alignment import Alignment, AlignmentCounts
from isthmus.align.keys import Ids
from isthmus.align.normalise import Rule
from isthmus.align.overlap import Overlap, count_overlap

__all__ = [
    "PROTOCOLS",
    "Alignment",
    "AlignmentCounts",
    "Ids",
    "Overlap",
    "Rule",
    "align",
    "count_overlap",
]
