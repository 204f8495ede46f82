import hashlib
import multiprocessing
from pathlib import Path

import cc3d
import nibabel as nib
import numpy as np
import pytest
from nifti_kinds import (
    AFFINE,
    MALFORMED,
    ODD_BUT_RIGHT,
    SHAPE,
    Writer,
    image_array,
    label_array,
    save,
    write_pair,
)

from pipeline.data.datalists import read_dataset
from pipeline.data.dataset import Case, Dataset
from pipeline.data.scan import scan_dataset

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
CLASSES = {0: "background", 1: "thing"}


def dataset(*cases: Case, classes: dict[int, str] | None = None, channels: tuple[str, ...] = ("image",)) -> Dataset:
    return Dataset("test", Path("test"), "list", channels, CLASSES if classes is None else classes, cases)


def pair(folder: Path, name: str, seed: int = 0, patient: str | None = None) -> Case:
    image, label = write_pair(folder, name, seed)
    return Case(name, (image,), label, patient or name)


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_pair_is_named_in_one_line_and_left_out_while_the_rest_goes_on(tmp_path: Path, kind: str) -> None:
    write, file, words = MALFORMED[kind]
    bad, good = pair(tmp_path, "a"), pair(tmp_path, "b", seed=1)
    write(tmp_path)
    result = scan_dataset(dataset(bad, good), memory_gib=0.01)
    assert [case.id for case in result.dataset.cases] == ["b"]
    assert [scan.case for scan in result.fingerprint.scans] == ["b"]
    lines = [problem.line() for problem in result.errors if problem.case == "a" and problem.file.endswith(file)]
    assert any(words in line for line in lines), [problem.line() for problem in result.problems]
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("kind", ODD_BUT_RIGHT)
def test_unusual_but_valid_files_are_accepted(tmp_path: Path, kind: str) -> None:
    write: Writer = ODD_BUT_RIGHT[kind]
    case, other = pair(tmp_path, "a"), pair(tmp_path, "b", seed=1)
    write(tmp_path)
    if not case.images[0].exists():
        moved = next(
            path for path in tmp_path.iterdir() if not path.name.endswith("label.nii.gz") and path.name[0] != "b"
        )
        case = Case("a", (moved,), case.label, "a")
    result = scan_dataset(dataset(case, other))
    assert not result.errors, [problem.line() for problem in result.problems]
    assert [scan.case for scan in result.fingerprint.scans] == ["a", "b"]
    if case.images[0].suffix in (".nii", ".gz"):
        assert result.fingerprint.scans[0].channels[0].mean == pytest.approx(
            float(np.mean(nib.load(case.images[0]).get_fdata())), rel=1e-6
        )


def test_all_problems_of_a_dataset_are_listed_at_once(tmp_path: Path) -> None:
    first, second = pair(tmp_path, "a"), pair(tmp_path, "b", seed=1)
    save(tmp_path / "a_label.nii.gz", label_array((7, 6, 6)) * np.float32(0.5))
    (tmp_path / "b.nii.gz").unlink()
    (tmp_path / "b_label.nii.gz").unlink()
    problems = [(problem.case, problem.problem) for problem in scan_dataset(dataset(first, second)).errors]
    assert len(problems) == 4
    assert sum(case == "a" for case, _ in problems) == 2


def test_statistics_match_numbers_worked_out_by_hand(tmp_path: Path) -> None:
    image = np.zeros((4, 3, 2), np.int16)
    image[0, 0, 0], image[1, 0, 0], image[3, 2, 1] = 10, 20, -6
    label = np.zeros((4, 3, 2), np.uint8)
    label[0:2, 0, 0] = 1
    label[3, 2, 1] = 1
    label[2, 1, 0] = 3
    case = Case("a", (save(tmp_path / "a.nii", image),), save(tmp_path / "l.nii", label), "a")
    result = scan_dataset(dataset(case, classes={0: "background", 1: "one", 2: "two", 3: "three"}))
    scan = result.fingerprint.scans[0]
    assert (scan.shape, scan.spacing_mm, scan.orientation, scan.dtype) == ((4, 3, 2), (1.0, 2.0, 3.0), "RAS", "int16")
    channel = scan.channels[0]
    assert (channel.minimum, channel.maximum) == (-6, 20)
    assert channel.mean == pytest.approx(1.0)
    assert channel.std == pytest.approx(np.sqrt(536 / 24 - 1))
    assert channel.zero_fraction == pytest.approx(21 / 24)
    assert channel.foreground_mean == pytest.approx((10 + 20 - 6 + 0) / 4)
    one = scan.classes[1]
    assert one.voxels == 3
    assert one.volume_ml == pytest.approx(0.018)
    assert one.components == 2
    assert one.smallest_component_ml == pytest.approx(0.006)
    assert one.largest_component_ml == pytest.approx(0.012)
    assert one.extent_mm == (4.0, 6.0, 6.0)
    assert scan.classes[2].voxels == 0
    assert scan.classes[2].extent_mm is None
    assert scan.classes[3].components == 1
    assert scan.classes[0].voxels == 20
    assert result.fingerprint.class_voxels() == {0: 20, 1: 3, 2: 0, 3: 1}
    assert [p.problem for p in result.problems] == ["has no voxel of class 2 (two) in any label"]


@pytest.mark.parametrize("seed", range(4))
def test_components_agree_with_labeling_each_class_separately(tmp_path: Path, seed: int) -> None:
    label = np.random.default_rng(seed).choice(4, (9, 8, 7), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    case = Case("a", (save(tmp_path / "a.nii", image_array(0, label.shape)),), save(tmp_path / "l.nii", label), "a")
    classes = scan_dataset(dataset(case, classes={})).fingerprint.scans[0].classes
    for value in (1, 2, 3):
        parts, count = cc3d.connected_components(label == value, connectivity=26, return_N=True)
        sizes = np.bincount(parts.ravel())[1:]
        assert classes[value].components == count
        assert classes[value].smallest_component_ml == pytest.approx(sizes.min() * 0.006)
        assert classes[value].largest_component_ml == pytest.approx(sizes.max() * 0.006)
        where = np.argwhere(label == value)
        assert classes[value].extent_mm == tuple((np.ptp(where, axis=0) + 1) * [1.0, 2.0, 3.0])


def test_percentiles_and_moments_hold_across_blocks_and_offsets(tmp_path: Path) -> None:
    shape = (80, 80, 50)
    image = np.random.default_rng(0).normal(1e5, 1, shape)
    label = label_array(shape)
    case = Case("a", (save(tmp_path / "a.nii", image),), save(tmp_path / "l.nii", label), "a")
    channel = scan_dataset(dataset(case)).fingerprint.scans[0].channels[0]
    assert channel.mean == pytest.approx(image.mean(), rel=1e-12)
    assert channel.std == pytest.approx(image.std(), rel=1e-9)
    assert channel.foreground_percentile_00_5 == pytest.approx(np.percentile(image[label > 0], 0.5))
    assert channel.foreground_percentile_99_5 == pytest.approx(np.percentile(image[label > 0], 99.5))


def test_classes_of_a_list_are_filled_in_from_the_values_found(tmp_path: Path) -> None:
    image, _ = write_pair(tmp_path)
    label = save(tmp_path / "l.nii.gz", label_array() * np.uint8(4))
    result = scan_dataset(dataset(Case("a", (image,), label, "a"), classes={}))
    assert result.dataset.classes == {0: "background", 4: "class 4"}


def test_channels_of_4d_images_in_a_list_are_filled_in(tmp_path: Path) -> None:
    image = save(tmp_path / "i.nii.gz", image_array(shape=(*SHAPE, 3)))
    label = save(tmp_path / "l.nii.gz", label_array())
    result = scan_dataset(dataset(Case("a", (image,), label, "a")))
    assert result.dataset.channels == ("image 0", "image 1", "image 2")
    assert len(result.fingerprint.scans[0].channels) == 3


def test_a_case_with_another_number_of_channels_is_an_error(tmp_path: Path) -> None:
    case = pair(tmp_path, "a")
    result = scan_dataset(dataset(case, channels=("t1", "t2")))
    assert "1 channel(s) where the dataset has 2 (t1, t2)" in result.errors[0].problem


def test_channels_on_different_grids_are_an_error(tmp_path: Path) -> None:
    image, label = write_pair(tmp_path)
    other = save(tmp_path / "t2.nii.gz", image_array(2), AFFINE + _shift())
    result = scan_dataset(dataset(Case("a", (image, other), label, "a"), channels=("t1", "t2")))
    assert [Path(problem.file).name for problem in result.errors] == ["t2.nii.gz"]
    assert "this channel has origin (5, 0, 0)" in result.errors[0].problem


def _shift() -> np.ndarray:
    shift = np.zeros((4, 4))
    shift[0, 3] = 5
    return shift


def test_one_constant_channel_among_others_is_a_note(tmp_path: Path) -> None:
    image, label = write_pair(tmp_path)
    flat = save(tmp_path / "t2.nii.gz", np.zeros(SHAPE, np.float32))
    result = scan_dataset(dataset(Case("a", (image, flat), label, "a"), channels=("t1", "t2")))
    assert not result.errors
    assert "constant" in result.problems[0].problem


def test_qform_and_sform_that_disagree_are_a_note(tmp_path: Path) -> None:
    image, label = write_pair(tmp_path)
    volume = nib.load(image)
    volume.set_qform(AFFINE + _shift(), code=1)
    volume.set_sform(AFFINE, code=2)
    nib.save(volume, image)
    result = scan_dataset(dataset(Case("a", (image,), label, "a")))
    assert not result.errors
    assert "qform and sform that place it up to 5 mm apart" in result.problems[0].problem


def test_the_same_voxels_under_two_names_are_an_error_however_they_are_stored(tmp_path: Path) -> None:
    first, other = pair(tmp_path, "a"), pair(tmp_path, "b", seed=1)
    again = save(tmp_path / "again.nii", image_array(0).astype(np.float64))
    copy = Case("copy", (again,), first.label, "copy")
    result = scan_dataset(dataset(first, other, copy))
    assert [case.id for case in result.dataset.cases] == ["a", "b"]
    assert [problem.problem for problem in result.errors] == ["has the same voxels as case a"]
    assert result.errors[0].file == str(again)


def test_copies_with_different_labels_are_both_left_out(tmp_path: Path) -> None:
    first, other = pair(tmp_path, "a"), pair(tmp_path, "b", seed=1)
    another = save(tmp_path / "other_label.nii.gz", np.ones(SHAPE, np.uint8))
    result = scan_dataset(dataset(first, other, Case("copy", first.images, another, "copy")))
    assert [case.id for case in result.dataset.cases] == ["b"]


def test_two_readings_of_one_patient_are_a_note(tmp_path: Path) -> None:
    first = pair(tmp_path, "a", patient="p")
    result = scan_dataset(dataset(first, Case("second", first.images, first.label, "p")))
    assert len(result.dataset.cases) == 2
    assert [problem.severity for problem in result.problems] == ["note"]


def test_an_empty_label_is_accepted_and_listed(tmp_path: Path) -> None:
    first, second = pair(tmp_path, "a"), pair(tmp_path, "b", seed=1)
    save(tmp_path / "b_label.nii.gz", np.zeros(SHAPE, np.uint8))
    result = scan_dataset(dataset(first, second))
    assert not result.errors
    assert [(p.case, p.severity) for p in result.problems] == [("b", "note")]
    assert result.fingerprint.scans[1].channels[0].foreground_mean is None


def test_labels_that_are_all_empty_are_an_error_of_the_dataset(tmp_path: Path) -> None:
    case = pair(tmp_path, "a")
    save(tmp_path / "a_label.nii.gz", np.zeros(SHAPE, np.uint8))
    assert "no voxel of any class" in scan_dataset(dataset(case)).errors[0].problem


def test_worker_processes_give_what_one_process_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = dataset(*[pair(tmp_path, f"c{index}", seed=index) for index in range(4)])
    done: list[int] = []
    alone = scan_dataset(cases, workers=1)
    monkeypatch.setattr("pipeline.data.scan.MINIMUM_POOL_BYTES", 0)
    together = scan_dataset(cases, workers=2, on_case=lambda: done.append(1))
    assert together == alone
    assert len(done) == 4
    assert not multiprocessing.active_children()


def test_content_hash_is_that_of_the_files_images_first(tmp_path: Path) -> None:
    case = pair(tmp_path, "a")
    assert case.label is not None
    expected = hashlib.sha256(case.images[0].read_bytes() + case.label.read_bytes()).hexdigest()
    assert scan_dataset(dataset(case)).fingerprint.scans[0].content_hash == expected


@pytest.mark.skipif(not (SHARED / "hippocampus").is_dir(), reason="shared/data/hippocampus is absent")
def test_200_hippocampus_cases_are_all_usable() -> None:
    result = scan_dataset(read_dataset(SHARED / "hippocampus"), workers=1)
    assert len(result.dataset.cases) == len(result.fingerprint.scans) == 200
    assert not result.errors
    assert result.dataset.foreground == {1: "Anterior", 2: "Posterior"}
    assert {scan.spacing_mm for scan in result.fingerprint.scans} == {(1.0, 1.0, 1.0)}


@pytest.mark.skipif(not (SHARED / "ms_lesions").is_dir(), reason="shared/data/ms_lesions is absent")
def test_two_patients_with_four_channels_are_read_from_their_folders() -> None:
    result = scan_dataset(read_dataset(SHARED / "ms_lesions"), workers=1)
    assert not result.errors
    assert result.dataset.channels == ("FLAIR", "T1", "T1POST", "T2")
    assert [case.id for case in result.dataset.cases] == ["patient07", "patient26"]
    assert result.fingerprint.scans[0].classes[1].voxels == 1300
    assert result.fingerprint.scans[0].orientation == "LAS"
