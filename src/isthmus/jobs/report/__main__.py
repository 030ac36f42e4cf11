"""`python -m isthmus.jobs.report PATH ...`: write the schema of `report.json` to these paths."""

from __future__ import annotations

import sys
from pathlib import Path

from isthmus.files import write_text
from isthmus.jobs.report.write import schema_text

for path in sys.argv[1:]:
    write_text(Path(path), schema_text())
