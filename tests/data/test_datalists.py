import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nifti_kinds import image_array, label_array, save

from pipeline.data.datalists import read_dataset
from pipeline.data.layouts.naming import case_ids
from pipeline.data.scan import scan_dataset
from pipeline.errors import DatasetError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def write_msd(root: Path, **changes: object) -> Path:
    pairs = [(f"imagesTr/c{i}.nii.gz", f"./labelsTr/c{i}.nii.gz") for i in range(2)]
    for image, label in pairs:
        touch(root / image, root / label)
    description = {
        "name": "Toy",
        "modality": {"1": "T2", "0": "T1"},
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": image, "label": label} for image, label in pairs],
    } | changes
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def write_nnunet(root: Path, **changes: object) -> Path:
    for case in ("a_1", "b"):
        touch(root / f"imagesTr/{case}_0000.nii.gz", root / f"imagesTr/{case}_0001.nii.gz")
        touch(root / f"labelsTr/{case}.nii.gz")
    description = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    } | changes
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def write_csv(root: Path, text: str, *files: str) -> Path:
    touch(*[root / file for file in files])
    path = root / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_decathlon_folder_is_read(tmp_path: Path) -> None:
    dataset = read_dataset(write_msd(tmp_path))
    assert (dataset.name, dataset.layout) == ("Toy", "msd")
    assert dataset.channels == ("T1", "T2")
    assert dataset.classes == {0: "background", 1: "liver"}
    assert [(case.id, case.patient) for case in dataset.cases] == [("c0", "c0"), ("c1", "c1")]
    assert dataset.cases[1].images == (tmp_path / "imagesTr/c1.nii.gz",)
    assert dataset.cases[1].label == tmp_path / "labelsTr/c1.nii.gz"
    assert read_dataset(tmp_path / "dataset.json") == dataset


def test_an_nnunet_folder_is_read(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr/._b_0000.nii.gz")
    dataset = read_dataset(write_nnunet(tmp_path))
    assert (dataset.layout, dataset.channels) == ("nnunet", ("T1", "FLAIR"))
    assert dataset.classes == {0: "background", 1: "lesion"}
    assert [case.id for case in dataset.cases] == ["a_1", "b"]
    assert [path.name for path in dataset.cases[0].images] == ["a_1_0000.nii.gz", "a_1_0001.nii.gz"]


def test_an_nnunet_folder_that_lists_its_files_is_read(tmp_path: Path) -> None:
    touch(tmp_path / "x/i.nii.gz", tmp_path / "x/l.nii.gz")
    listing = {"case": {"images": ["x/i.nii.gz"], "label": "x/l.nii.gz"}}
    dataset = read_dataset(write_nnunet(tmp_path, dataset=listing, channel_names={"0": "CT"}))
    assert dataset.cases[0].images == (tmp_path / "x/i.nii.gz",)


def test_a_csv_list_is_read_with_channels_patients_and_folds(tmp_path: Path) -> None:
    text = "\ufeffCase,image_flair,image_t1,label,patient,fold\n"
    text += "A,a/f.nii,a/t.nii,a/l.nii,p,0\nB,b/f.nii,b/t.nii,b/l.nii,p,1\n"
    files = [f"{case}/{name}.nii" for case in "ab" for name in "ftl"]
    dataset = read_dataset(write_csv(tmp_path, text, *files))
    assert (dataset.layout, dataset.channels, dict(dataset.classes)) == ("list", ("flair", "t1"), {})
    assert [(case.id, case.patient, case.fold) for case in dataset.cases] == [("A", "p", 0), ("B", "p", 1)]
    assert dataset.cases[1].images == (tmp_path / "b/f.nii", tmp_path / "b/t.nii")


def test_numbered_image_columns_are_channels_in_their_order(tmp_path: Path) -> None:
    text = "image_10;image_2;label\nx.nii;y.nii;l.nii\n"
    dataset = read_dataset(write_csv(tmp_path, text, "x.nii", "y.nii", "l.nii"))
    assert [path.name for path in dataset.cases[0].images] == ["y.nii", "x.nii"]
    assert dataset.channels == ("channel 2", "channel 10")


def test_cases_without_ids_are_named_by_the_part_that_distinguishes_their_files(tmp_path: Path) -> None:
    text = "image,label\np1/t1.nii.gz,p1/seg.nii.gz\np2/t1.nii.gz,p2/seg.nii.gz\n"
    files = ("p1/t1.nii.gz", "p1/seg.nii.gz", "p2/t1.nii.gz", "p2/seg.nii.gz")
    assert [case.id for case in read_dataset(write_csv(tmp_path, text, *files)).cases] == ["p1", "p2"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_json_list_is_read(tmp_path: Path, wrapped: bool) -> None:
    cases = [{"image": ["a.nii", "b.nii"], "label": "l.nii", "id": 7, "fold": 1}]
    touch(tmp_path / "a.nii", tmp_path / "b.nii", tmp_path / "l.nii")
    content = {"cases": cases, "classes": {"tumour": 2}, "channels": ["T1", "T2"]} if wrapped else cases
    (tmp_path / "list.json").write_text(json.dumps(content))
    dataset = read_dataset(tmp_path / "list.json")
    assert dataset.channels == (("T1", "T2") if wrapped else ("channel 0", "channel 1"))
    assert dataset.classes == ({0: "background", 2: "tumour"} if wrapped else {})
    assert (dataset.cases[0].id, dataset.cases[0].fold) == ("7", 1)


@pytest.mark.parametrize("prefix", ["", "case_"])
def test_a_folder_with_one_folder_per_case_is_read_and_scanned(tmp_path: Path, prefix: str) -> None:
    for index in range(2):
        folder = tmp_path / f"p{index}"
        folder.mkdir()
        start = f"{folder.name}_" if prefix else ""
        save(folder / f"{start}T1.nii.gz", image_array(index))
        save(folder / f"{start}FLAIR.nii.gz", image_array(index + 5))
        save(folder / f"{start}Lesions.nii.gz", label_array())
    (tmp_path / "notes").mkdir()
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("FLAIR", "T1")
    assert [case.id for case in dataset.cases] == ["p0", "p1"]
    result = scan_dataset(dataset)
    assert not result.errors
    assert result.dataset.classes == {0: "background", 1: "class 1"}


def _empty(root: Path) -> Path:
    return root


def _msd_without_labels(root: Path) -> Path:
    write_msd(root)
    for path in (root / "labelsTr").iterdir():
        path.unlink()
    return root


def _msd_twice(root: Path) -> Path:
    entry = {"image": "imagesTr/c0.nii.gz", "label": "labelsTr/c0.nii.gz"}
    return write_msd(root, training=[entry, entry])


def _nnunet_without(file: str):  # type: ignore[no-untyped-def]
    def write(root: Path) -> Path:
        write_nnunet(root)
        (root / file).unlink()
        return root

    return write


def _nnunet_without_labels_folder(root: Path) -> Path:
    write_nnunet(root)
    (root / "labelsTr").rename(root / "masks")
    return root


def _nnunet_unnumbered(root: Path) -> Path:
    touch(root / "imagesTr/c.nii.gz")
    return write_nnunet(root)


def _nnunet_surplus(root: Path) -> Path:
    touch(root / "imagesTr/b_0002.nii.gz")
    return write_nnunet(root)


def _flat_folder(root: Path) -> Path:
    touch(root / "a.nii.gz")
    return root


def _no_description(root: Path) -> Path:
    write_msd(root)
    (root / "dataset.json").unlink()
    return root


def _description(text: str):  # type: ignore[no-untyped-def]
    def write(root: Path) -> Path:
        (root / "dataset.json").write_text(text)
        return root

    return write


def _case_folders(*names: str):  # type: ignore[no-untyped-def]
    def write(root: Path) -> Path:
        touch(*[root / name for name in names])
        return root

    return write


def _csv(text: str, *files: str):  # type: ignore[no-untyped-def]
    return lambda root: write_csv(root, text, *files)


def _json(content: object):  # type: ignore[no-untyped-def]
    def write(root: Path) -> Path:
        (root / "l.json").write_text(json.dumps(content))
        return root / "l.json"

    return write


WRONG_LAYOUTS = {
    "empty folder": (_empty, "is an empty folder"),
    "absent": (lambda root: root / "nowhere", "does not exist"),
    "a single volume": (lambda root: save(root / "a.nii.gz", image_array()), "single volume"),
    "another kind of file": (lambda root: (touch(root / "a.docx"), root / "a.docx")[1], "is not a list of cases"),
    "files without a layout": (_flat_folder, "expected dataset.json or one folder per case .* found a.nii.gz"),
    "no dataset.json": (_no_description, "has no dataset.json, found imagesTr, labelsTr"),
    "broken dataset.json": (_description("{"), "not valid JSON \\(line 1"),
    "dataset.json of something else": (_description('{"a": 1}'), "has the keys a; expected 'training'"),
    "Decathlon without labels": (_msd_without_labels, "lists 4 files of which 2 do not exist, first .*labelsTr/c0"),
    "Decathlon case twice": (_msd_twice, "2 cases with the id 'c0'"),
    "Decathlon without training": (lambda root: write_msd(root, training=[]), "lists no training cases"),
    "Decathlon entry without label": (
        lambda root: write_msd(root, training=[{"image": "a"}]),
        "entry 0 must have an image and a label; found image",
    ),
    "Decathlon without class names": (lambda root: write_msd(root, labels={}), "no class names"),
    "background alone": (lambda root: write_msd(root, labels={"0": "background"}), "no class besides"),
    "channels with a gap": (lambda root: write_msd(root, modality={"0": "a", "2": "b"}), "no channels from 0"),
    "nnU-Net regions": (
        lambda root: write_nnunet(root, labels={"background": 0, "whole": [1, 2]}),
        "defines 'whole' as a region of label values \\[1, 2\\]",
    ),
    "nnU-Net ignore label below a class": (
        lambda root: write_nnunet(root, labels={"background": 0, "ignore": 1, "x": 2}),
        r"gives the ignore label the value 1, below that of 'x' \(2\)",
    ),
    "nnU-Net values twice": (
        lambda root: write_nnunet(root, labels={"background": 0, "x": 1, "y": 1}),
        "gives value 1 to 'x' and 'y'",
    ),
    "nnU-Net with PNG": (lambda root: write_nnunet(root, file_ending=".png"), "'.png'"),
    "nnU-Net without a label": (_nnunet_without("labelsTr/b.nii.gz"), "2 cases .* 1 labels, no label for b"),
    "nnU-Net without a channel": (_nnunet_without("imagesTr/b_0001.nii.gz"), "1 does not exist, first .*b_0001"),
    "nnU-Net without labelsTr": (_nnunet_without_labels_folder, "no folder labelsTr, found imagesTr, masks"),
    "nnU-Net image without number": (_nnunet_unnumbered, "holds c.nii.gz without a channel number"),
    "nnU-Net channel too many": (_nnunet_surplus, "holds b_0002.nii.gz where dataset.json names 2"),
    "case folders without a label": (_case_folders("p/a.nii", "p/b.nii"), "expected one label file .* found none"),
    "case folders with two labels": (_case_folders("p/a.nii", "p/seg.nii", "p/mask.nii"), "found mask, seg"),
    "case folders of different files": (
        _case_folders("p/a.nii", "p/seg.nii", "q/a.nii", "q/seg.nii", "r/seg.nii"),
        "r: lacks a, where most case folders hold a, seg",
    ),
    "list with a missing file": (_csv("image,label\na.nii,l.nii\n", "a.nii"), "2 files of which 1 does not exist"),
    "list with an unknown column": (
        _csv("image,label,scanner\na.nii,l.nii,x\n"),
        r"looked for the columns image .*\(not understood: scanner\)",
    ),
    "list without label": (_csv("image\na.nii\n"), "looked for the columns .* found image"),
    "list without header": (_csv("a.nii,l.nii\n"), "found a.nii, l.nii"),
    "list with image and image_t1": (_csv("image,image_t1,label\na,b,c\n"), "image beside image_t1"),
    "list with an empty image": (_csv("image_0,image_1,label\na,,c\n"), "line 2 lacks an image"),
    "list with an empty label": (_csv("image,label\na,\n"), "line 2 has no label"),
    "list with cells too many": (_csv("image,label\na,b,c\n"), "line 2 has 3 cells, its header 2"),
    "list with a fold that is none": (_csv("image,label,fold\na,b,x\n"), "has the fold 'x'"),
    "list with folds for some": (_csv("image,label,fold\na,b,0\nc,d,\n"), "line 3 has the fold ''"),
    "list with an id twice": (_csv("case,image,label\nx,a,b\nx,c,d\n"), "2 cases with the id 'x'"),
    "list with ids for some": (_csv("case,image,label\nx,a,b\n,c,d\n"), "line 3 has no case id"),
    "list with the same files twice": (_csv("image,label\na,b\na,b\n"), "2 cases with the id"),
    "list without rows": (_csv("image,label\n"), "lists no cases"),
    "empty list": (_csv(""), "is empty"),
    "JSON list with unknown keys": (_json({"data": []}), "has the keys data; expected cases"),
    "JSON list of numbers": (_json([1, 2]), "is not a list of cases"),
    "JSON list with a number for a path": (_json([{"image": 5, "label": "l"}]), "case 0 has the image 5"),
    "JSON list with channels for some": (
        _json([{"image": ["a", "b"], "label": "l"}, {"image": ["a", "b", "c"], "label": "m"}]),
        "case 1 has 3 images where there are 2",
    ),
}


@pytest.mark.parametrize("kind", WRONG_LAYOUTS)
def test_a_wrong_layout_gives_one_line_with_the_expected_and_the_actual_content(tmp_path: Path, kind: str) -> None:
    write, words = WRONG_LAYOUTS[kind]
    path = write(tmp_path)
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_can_be_left_for_the_scan_to_list(tmp_path: Path) -> None:
    case = {"image": "a.nii.gz", "label": "gone.nii.gz"}
    save(tmp_path / "a.nii.gz", image_array())
    (tmp_path / "l.json").write_text(json.dumps([case]))
    result = scan_dataset(read_dataset(tmp_path / "l.json", allow_missing=True))
    assert [os.path.basename(problem.file) for problem in result.errors] == ["gone.nii.gz"]


def test_unpaired_nnunet_files_can_be_left_for_the_scan_to_list(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "labelsTr/b.nii.gz").unlink()
    (tmp_path / "imagesTr/a_1_0000.nii.gz").unlink()
    result = scan_dataset(read_dataset(tmp_path, allow_missing=True))
    absent = [os.path.basename(problem.file) for problem in result.errors if "does not exist" in problem.problem]
    assert absent == ["a_1_0000.nii.gz", "b.nii.gz"]


@given(st.lists(st.text(min_size=1, max_size=150).filter(str.strip), min_size=1, max_size=8, unique=True))
def test_ids_are_unique_and_safe_as_file_names(names: list[str]) -> None:
    ids = case_ids(names, Path("list.csv"))
    assert len({name.lower() for name in ids}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,139}", name) for name in ids)


def test_safe_names_do_not_change_and_others_are_spelled_in_ascii() -> None:
    assert case_ids(["hippocampus_001", "Müller 2", "a b", "a_b"], Path("x"))[:2] == ("hippocampus_001", "Muller_2")
    first, second = case_ids(["a b", "a_b"], Path("x"))
    assert second == "a_b"
    assert first.startswith("a_b-")


def test_a_csv_takes_class_names_from_the_description_beside_it(tmp_path):
    write_msd(tmp_path)
    listing = tmp_path / "cases.csv"
    listing.write_text("image,label\nimagesTr/c0.nii.gz,labelsTr/c0.nii.gz\n")
    assert read_dataset(listing).classes == {0: "background", 1: "liver"}
    (tmp_path / "dataset.json").unlink()
    assert read_dataset(listing).classes == {}
