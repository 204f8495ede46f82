import nibabel as nib
import numpy as np
import pytest

from pipeline.data import scan_cache
from pipeline.data.dataset import Case, Dataset
from pipeline.data.integrity import check_case
from pipeline.data.scan import scan_dataset
from pipeline.data.scan_cache import check_case_cached

LIMIT = 1 << 30


@pytest.fixture
def case(tmp_path):
    random = np.random.default_rng(0)
    nib.save(nib.Nifti1Image(random.normal(size=(6, 7, 8)).astype(np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image((random.random((6, 7, 8)) < 0.2).astype(np.uint8), np.eye(4)), tmp_path / "l.nii.gz")
    return Case("a", (tmp_path / "a.nii.gz",), tmp_path / "l.nii.gz", "a")


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def counting(case, max_bytes):
        calls.append(case.id)
        return check_case(case, max_bytes)

    monkeypatch.setattr(scan_cache, "check_case", counting)
    return calls


def test_unchanged_files_are_not_measured_again(case, counted, tmp_path):
    first = check_case_cached(case, LIMIT, tmp_path / "cache")
    again = check_case_cached(case, LIMIT, tmp_path / "cache")
    assert counted == ["a"]
    assert again == first == check_case(case, LIMIT)


def test_a_file_that_changed_is_measured_anew(case, counted, tmp_path):
    before = check_case_cached(case, LIMIT, tmp_path / "cache")
    image = np.asarray(nib.load(case.images[0]).dataobj) + 1
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.eye(4)), case.images[0])
    after = check_case_cached(case, LIMIT, tmp_path / "cache")
    assert counted == ["a", "a"]
    assert after.scan.channels[0].mean == pytest.approx(before.scan.channels[0].mean + 1)


def test_errors_are_never_cached_and_damaged_results_are_measured_anew(case, counted, tmp_path):
    cache = tmp_path / "cache"
    check_case_cached(case, LIMIT, cache)
    (path,) = cache.iterdir()
    path.write_text(path.read_text()[:100])
    assert check_case_cached(case, LIMIT, cache) == check_case(case, LIMIT)
    case.images[0].write_bytes(case.images[0].read_bytes()[:-9])
    for _ in range(2):
        assert check_case_cached(case, LIMIT, cache).scan is None
    assert counted == ["a"] * 4


def test_a_missing_file_is_still_named(case, tmp_path):
    case.label.unlink()
    result = check_case_cached(case, LIMIT, tmp_path / "cache")
    assert [problem.severity for problem in result.problems] == ["error"]


def test_a_dataset_scanned_from_the_cache_is_the_same_to_the_last_bit(case, tmp_path):
    dataset = Dataset("d", tmp_path, "list", ("MRI",), {0: "background", 1: "organ"}, (case,))
    plain = scan_dataset(dataset)
    scan_dataset(dataset, cache_folder=tmp_path / "cache")
    assert scan_dataset(dataset, cache_folder=tmp_path / "cache") == plain
