"""The quickstart's network of one's own runs as it stands."""

import re
from pathlib import Path

import numpy as np

QUICKSTART = Path(__file__).parents[2] / "docs" / "quickstart.md"


def test_the_networks_of_the_page_learn(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", QUICKSTART.read_text(), re.DOTALL)
    names = {}
    exec(compile(example, "quickstart.md", "exec"), names)
    said = re.fullmatch(r"test AUC: (\S+)\n", capsys.readouterr().out)
    assert 0.76 < float(said[1]) < 0.84
    scores, top = names["results"]["bob"]
    assert scores.dtype == np.float64
    assert top["layers.0.weight"].shape == (16, 2 * names["WIDTH"])
    assert not names["results"]["alice"]["table.weight"][0].any()
