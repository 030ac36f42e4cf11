"""Tables looked at by real processes over TLS: what they find is what one process finds."""

import json

import pytest
from tests.tiny import TEXT

from isthmus.jobs.local import run_here

pytest.importorskip("tenseal")

CLEAN = "    clean: {Age: {missing: drop}, Income: {missing: mean}}\n"
LOOKS = TEXT.partition("train:")[0]
LOOKS = LOOKS.replace("  bob:\n", f"{CLEAN}  bob:\n")
LOOKS = LOOKS.replace('Tags: {kind: multi_hot, separator: "|"}', "Price: numeric")
LOOKS += "profile: {least: 20}\nbin: {bins: 4}\ncorrelation: {}\npca: {components: 1}\n"


def test_looks_over_tls_are_those_of_one_process(site):
    site.write(LOOKS)
    changes = ("--out", site.folder / "runs")
    done = site.isthmus("run", site.job_file, *changes)
    assert done.returncode == 0, done.stderr
    assert "greatest IV" in done.stdout
    here = run_here(site.job(), site.folder / "memory")
    for party, page in here.items():
        expected = json.loads((page.parent / "report.json").read_text())
        found = json.loads((site.results(party) / "report.json").read_text())
        assert found["looks"] == expected["looks"]
        assert found["looks"]["bins"]["columns"]
        assert "Principal components" in (site.results(party) / "report.html").read_text()

    again = site.isthmus("run", site.job_file, *changes, "--resume")
    assert again.returncode == 0, again.stderr
    log = (site.results("alice") / "log.jsonl").read_text()
    assert [json.loads(line)["event"] for line in log.splitlines()].count("step.skip") == 6
