"""What a killed process left half-written does not stay."""

from isthmus.files import write_text
from isthmus.jobs.artefacts import PartyFolder


def test_half_written_files_are_removed_when_the_party_starts_again(tmp_path):
    folder = PartyFolder(tmp_path / "runs" / "alice")
    folder.create()
    kept = folder.step("encode").file("features/index.npy")
    write_text(kept, "whole")
    half = kept.with_name(".index.npy.4711.part")
    half.write_text("ha")
    PartyFolder(tmp_path / "runs" / "alice").create()
    assert kept.exists()
    assert not half.exists()
