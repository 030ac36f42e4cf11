"""The page in a real browser: charts drawn, no script error, hostile names harmless."""

import re
import shutil
import subprocess

import pytest

from isthmus.jobs import report as r

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
]

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium here")


def opened(page, tmp_path):
    """The page's DOM after its script has run."""
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_label_partys_page_draws_all_charts_whatever_the_names(make_report, make_job, tmp_path):
    name = "</script><img src=x onerror=\"document.documentElement.dataset.hit='1'\">"
    parties = (r.Party(name="alice", role="feature"), r.Party(name=name, role="label"))
    page, _ = r.write_report(make_report(job=make_job(name, parties=parties)), tmp_path)
    dom = opened(page, tmp_path)
    opening = re.search(r"<html[^>]*>", dom)[0]
    assert 'data-ok="yes"' in opening
    assert "data-error" not in opening
    assert "data-hit" not in opening
    assert dom.count("<canvas") == 8
    assert dom.count('data-drawn="yes"') == 8
    assert "<img" not in dom


def test_a_feature_partys_page_draws_its_chart(feature_report, tmp_path):
    page, _ = r.write_report(feature_report, tmp_path)
    dom = opened(page, tmp_path)
    assert 'data-ok="yes"' in re.search(r"<html[^>]*>", dom)[0]
    assert dom.count("<canvas") == 1


def test_the_policy_stops_a_script_that_is_not_ours(feature_report, tmp_path):
    page, _ = r.write_report(feature_report, tmp_path)
    alien = "<script>document.documentElement.dataset.hit='1'</script></body>"
    page.write_text(page.read_text().replace("</body>", alien))
    opening = re.search(r"<html[^>]*>", opened(page, tmp_path))[0]
    assert "data-hit" not in opening
    assert 'data-ok="yes"' in opening
