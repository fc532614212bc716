"""Paths that nothing can be written to are refused before the work, not after it."""

from pathlib import Path

import pytest

from hisplat_app.commands.paths import check_can_write, check_folder_out


def test_what_can_be_written_passes_and_nothing_is_left(tmp_path: Path):
    check_can_write(tmp_path / "scene.ply")
    check_folder_out(tmp_path / "runs" / "new")
    check_folder_out(tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_and_folders_in_the_way_are_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a folder"):
        check_can_write(tmp_path)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        check_can_write(tmp_path / "nowhere" / "scene.ply")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match=r"file is a file"):
            check_folder_out(path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that none can write to")
def test_folders_that_cannot_be_written_to_are_refused():
    with pytest.raises(ValueError, match="Cannot write to the folder /proc: "):
        check_can_write(Path("/proc/scene.ply"))
    with pytest.raises(ValueError, match="Cannot write to the folder /proc: "):
        check_folder_out(Path("/proc/run"))
