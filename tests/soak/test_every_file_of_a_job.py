"""Every file of a finished job meets every fate; `tests/data/test_job_folders.py` has a sample."""

import pytest

from job_folders import FATES, JOBS, FinishedJob


pytestmark = pytest.mark.soak


@pytest.mark.parametrize("kind", ["parquet", "folder", "tar"])
@pytest.mark.parametrize("job", JOBS)
def test_every_file_of_a_job_is_named_and_made_again(job, kind, tmp_path, caplog):
    finished = FinishedJob(job, kind, tmp_path)
    for name in finished.files():
        for fate in FATES:
            finished.check(name, fate, tmp_path / fate / name.replace("/", "_"), caplog)
