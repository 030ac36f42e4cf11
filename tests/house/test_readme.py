"""The README's Python example runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_example_learns_what_it_says():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    best = max(epoch.valid_auc for epoch in names["results"]["bob"].epochs)
    assert 0.8 < best < 0.86
