import json

import pytest

from pipeline.errors import ConfigError, DatasetError
from pipeline.inference.sources import find_jobs, refuse_output_within


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def ids(source, channels=("MR",)):
    return [job.id for job in find_jobs(source, channels)]


def test_equal_names_in_different_folders_are_different_cases(tmp_path):
    touch(tmp_path, "a/scan.nii.gz", "b/scan.nii.gz", "scan.nii.gz", "a_scan.nii.gz")
    found = ids(tmp_path)
    assert len(set(found)) == 4
    assert {"scan", "a_scan"} <= set(found)


def test_an_id_does_not_depend_on_other_files(tmp_path):
    touch(tmp_path, "a/scan.nii.gz", "x.nii.gz")
    before = set(ids(tmp_path))
    touch(tmp_path, "b/scan.nii.gz", "a_scan.nii.gz", "a/y.nii")
    assert before <= set(ids(tmp_path))


def test_two_formats_of_one_name_are_two_cases(tmp_path):
    assert len(set(ids(touch(tmp_path, "a.nii", "a.nii.gz")))) == 2


@pytest.mark.parametrize(
    "name", ["..", "../../etc/passwd", "/etc/passwd", "a b;rm -rf", "-x", "<b>", "ä", "a\nb", "." * 300]
)
def test_no_name_leaves_the_output_folder(tmp_path, name):
    touch(tmp_path, "a.nii")
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([{"case": name, "image": "a.nii"}]))
    (job,) = find_jobs(listed, ("MR",))
    assert set(job.id) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
    assert job.id[0] not in ".-"
    assert len(job.id) < 200


def test_numbered_channels_are_one_case_and_a_missing_one_is_named(tmp_path):
    touch(
        tmp_path,
        "p1_0000.nii.gz",
        "p1_0001.nii.gz",
        "p2_0001.nii.gz",
        "p3_0000.nii.gz",
        "p3_0001.nii.gz",
        "p3_0002.nii.gz",
    )
    jobs = {job.id: job for job in find_jobs(tmp_path, ("FLAIR", "T1"))}
    assert [path.name for path in jobs["p1"].images] == ["p1_0000.nii.gz", "p1_0001.nii.gz"]
    assert "lacks channel _0000 (FLAIR)" in jobs["p2"].problem
    assert "_0002" in jobs["p3"].problem


def test_numbers_of_single_channel_files_stay_part_of_the_name(tmp_path):
    assert ids(touch(tmp_path, "scan_0000.nii.gz", "scan_0001.nii.gz")) == ["scan_0000", "scan_0001"]


def test_folders_with_files_named_by_channel_are_cases(tmp_path):
    touch(tmp_path, "p1/T1.nii.gz", "p1/flair.nii.gz", "p1/lesions.nii.gz", "p2/FLAIR.nii.gz", "p2/T1.nii.gz")
    jobs = find_jobs(tmp_path, ("FLAIR", "T1"))
    assert [[path.name for path in job.images] for job in jobs] == [
        ["flair.nii.gz", "T1.nii.gz"],
        ["FLAIR.nii.gz", "T1.nii.gz"],
    ]


def test_lists_name_their_cases_and_channels(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    (tmp_path / "l.csv").write_text("id;label;image_1;image_0\nx;none;b.nii;a.nii\n")
    (job,) = find_jobs(tmp_path / "l.csv", ("A", "B"))
    assert (job.id, [path.name for path in job.images]) == ("x", ["a.nii", "b.nii"])
    (tmp_path / "l.txt").write_text("a.nii\nb.nii\n")
    assert ids(tmp_path / "l.txt") == ["a", "b"]
    (tmp_path / "l.json").write_text('{"cases": ["a.nii", {"case": "second", "image": ["b.nii"]}]}')
    assert ids(tmp_path / "l.json") == ["a", "second"]


@pytest.mark.parametrize("text", ["", "name,label\na,b\n", "image,case\na.nii,x\na.nii,x\n", "image,case\na.nii\n"])
def test_a_malformed_list_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DatasetError) as caught:
        find_jobs(tmp_path / "l.csv", ("MR",))
    assert "\n" not in str(caught.value)


def test_an_input_without_images_is_a_wrong_request(tmp_path):
    for source in (tmp_path, tmp_path / "absent", touch(tmp_path / "t", "notes.txt")):
        with pytest.raises(DatasetError):
            find_jobs(source, ("MR",))


def test_an_output_within_the_input_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="within the input"):
        refuse_output_within(tmp_path, tmp_path / "out")
    refuse_output_within(tmp_path / "in", tmp_path / "out")


def test_hidden_files_of_copying_tools_are_not_cases(tmp_path):
    assert ids(touch(tmp_path, "a.nii.gz", "._a.nii.gz", ".Trash/b.nii.gz")) == ["a"]


def test_the_first_channel_number_of_nnunet_is_not_part_of_the_name_of_a_single_channel_case(tmp_path):
    touch(tmp_path / "in", "liver_0000.nii.gz", "ward/spleen_0000.nii", "plain.nii.gz")
    found = ids(tmp_path / "in")
    assert found[:2] == ["liver", "plain"]
    assert found[2].startswith("ward_spleen-")
    assert ids(tmp_path / "in" / "liver_0000.nii.gz") == ["liver"]


def test_a_number_that_counts_cases_remains_even_if_one_file_is_the_input(tmp_path):
    touch(tmp_path, "scan_0000.nii.gz", "scan_0001.nii.gz")
    assert ids(tmp_path / "scan_0000.nii.gz") == ["scan_0000"]


def test_a_number_remains_if_the_name_without_it_is_another_case(tmp_path):
    assert ids(touch(tmp_path, "a.nii.gz", "a_0000.nii.gz")) == ["a", "a_0000"]


def test_lists_omit_the_channel_number_unless_they_give_a_name(tmp_path):
    touch(tmp_path, "a_0000.nii", "b_0000.nii", "b_0001.nii")
    (tmp_path / "one.txt").write_text("a_0000.nii\n")
    assert ids(tmp_path / "one.txt") == ["a"]
    (tmp_path / "cases.txt").write_text("a_0000.nii\nb_0000.nii\nb_0001.nii\n")
    assert ids(tmp_path / "cases.txt") == ["a", "b_0000", "b_0001"]
    (tmp_path / "two.csv").write_text("image_0,image_1\nb_0000.nii,b_0001.nii\n")
    assert ids(tmp_path / "two.csv", ("A", "B")) == ["b"]
    (tmp_path / "named.csv").write_text("case,image\nx_0000,a_0000.nii\n")
    assert ids(tmp_path / "named.csv") == ["x_0000"]


@pytest.mark.parametrize(
    "names", [("a/scan.hdr", "a/scan.img"), ("a/scan.HDR", "a/scan.IMG"), ("a/scan.hdr.gz", "a/scan.img.gz")]
)
def test_a_pair_of_header_and_image_is_a_failed_case(tmp_path, names):
    touch(tmp_path, "b.nii.gz", *names, "a/lonely.img")
    (pair,) = (job for job in find_jobs(tmp_path, ("MR",)) if job.problem)
    assert pair.images == tuple(tmp_path / name for name in names)
    assert "pair of .hdr and .img" in pair.problem
    assert ".nii.gz" in pair.remedy


def test_a_folder_with_only_a_pair_has_one_case(tmp_path):
    touch(tmp_path, "scan.hdr", "scan.img")
    assert len(find_jobs(tmp_path, ("MR",))) == 1


def test_files_that_only_begin_like_dicom_do_not_stop_a_folder_of_volumes(tmp_path):
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "table.bin").write_bytes(b"\x08\0\x05\0\x0a\0\0\0" + b"\x17" * 400)
    assert ids(tmp_path) == ["a"]
