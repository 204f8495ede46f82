import pytest

from pipeline.errors import DatasetError
from pipeline.metrics.file_pairs import FilePair, pair_files


def folder(tmp_path, name, *files):
    made = tmp_path / name
    made.mkdir()
    for file in files:
        (made / file).touch()
    return made


def test_files_are_matched_by_name_whatever_their_compression(tmp_path):
    references = folder(tmp_path, "r", "a.nii.gz", "b.nii", "c.nii.gz", "._a.nii.gz", "notes.txt")
    predictions = folder(tmp_path, "p", "a.nii", "b.nii.gz", "d.nii.gz")
    found = pair_files(references, predictions)
    assert found.pairs == (
        FilePair("a", references / "a.nii.gz", predictions / "a.nii"),
        FilePair("b", references / "b.nii", predictions / "b.nii.gz"),
    )
    assert found.missing == (references / "c.nii.gz",)
    assert found.extra == (predictions / "d.nii.gz",)


def test_two_files_are_a_pair_whatever_their_names(tmp_path):
    reference = folder(tmp_path, "r", "truth.nii.gz") / "truth.nii.gz"
    prediction = folder(tmp_path, "p", "mine.nii") / "mine.nii"
    assert pair_files(reference, prediction).pairs == (FilePair("truth", reference, prediction),)


def test_folders_that_cannot_be_matched_are_refused(tmp_path):
    good = folder(tmp_path, "good", "a.nii")
    with pytest.raises(DatasetError, match="does not exist"):
        pair_files(good, tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="is a file, not a folder"):
        pair_files(good / "a.nii", good)
    with pytest.raises(DatasetError, match=r"holds no \.nii"):
        pair_files(good, folder(tmp_path, "empty", "readme.md"))
    with pytest.raises(DatasetError, match=r"holds both a\.nii and a\.nii\.gz"):
        pair_files(good, folder(tmp_path, "twins", "a.nii", "a.nii.gz"))


def test_the_output_folder_of_predict_stands_for_its_masks(tmp_path):
    references = folder(tmp_path, "r", "a.nii.gz", "b.nii.gz")
    out = folder(tmp_path, "out", "manifest.json", "index.html")
    masks = folder(out, "masks", "a.nii.gz")
    found = pair_files(references, out)
    assert found.pairs == (FilePair("a", references / "a.nii.gz", masks / "a.nii.gz"),)
    assert found.missing == (references / "b.nii.gz",)
    assert found.prediction_folder == masks


def test_a_folder_with_label_maps_of_its_own_is_not_left_for_a_folder_masks(tmp_path):
    references = folder(tmp_path, "r", "a.nii.gz")
    predictions = folder(tmp_path, "p", "a.nii.gz")
    folder(predictions, "masks", "a.nii.gz")
    assert pair_files(references, predictions).pairs[0].prediction == predictions / "a.nii.gz"


def test_the_first_channel_number_of_nnunet_does_not_part_a_pair(tmp_path):
    references = folder(tmp_path, "r", "a.nii.gz", "b_0000.nii.gz", "c.nii.gz", "c_0000.nii.gz")
    predictions = folder(tmp_path, "p", "a_0000.nii.gz", "b.nii.gz", "c_0000.nii.gz")
    found = pair_files(references, predictions)
    assert [(pair.case, pair.prediction.name) for pair in found.pairs] == [
        ("a", "a_0000.nii.gz"),
        ("b_0000", "b.nii.gz"),
        ("c_0000", "c_0000.nii.gz"),
    ]
    assert found.missing == (references / "c.nii.gz",)
    assert found.extra == ()
