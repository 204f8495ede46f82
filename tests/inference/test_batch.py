import csv
import gzip
import io
import json
import shutil
import struct
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from small_model import head, save_head, small_model

from pipeline.inference.batch import Batch
from pipeline.inference.journal import Journal
from pipeline.inference.options import Options
from pipeline.inference.sources import find_jobs
from pipeline.system.files import sha256_of_file

pytestmark = pytest.mark.usefixtures("quick_pictures")


def run(source, out, model=None, **options):
    model = model or small_model()
    return Batch(model, out, Options(**options)).run(find_jobs(source, model.channels))


def good_folder(folder, count):
    for number in range(count):
        save_head(folder / f"case{number:02d}.nii.gz", number)
    return folder


def break_in_eight_ways(folder):
    """Damage case00 to case07, each differently, and return a word of each expected reason."""

    def path(number):
        return folder / f"case{number:02d}.nii.gz"

    path(0).write_bytes(path(0).read_bytes()[:-60])
    data = bytearray(path(1).read_bytes())
    data[-6] ^= 0xFF
    path(1).write_bytes(data)
    values = head().astype(np.float32)
    values[3, 4, 5] = np.nan
    nib.save(nib.Nifti1Image(values, np.eye(4)), path(2))
    nib.save(nib.Nifti1Image(np.stack([head()] * 3, -1), np.eye(4)), path(3))
    path(4).write_bytes(b"")
    path(5).write_bytes(gzip.compress(b"<html>not found</html>" * 40))
    nib.save(nib.Nifti1Image(np.full((9, 9, 9), 7, np.int16), np.eye(4)), path(6))
    whole = bytearray(gzip.decompress(path(7).read_bytes()))
    struct.pack_into("<hhhh", whole, 42, 30000, 30000, 30000, 1)
    path(7).write_bytes(gzip.compress(bytes(whole)))
    return ["cut short", "damaged", "NaN", "4D", "empty", "NIfTI", "constant", "budget"]


def test_eight_broken_cases_of_twenty_leave_twelve_outputs_as_in_a_clean_run(tmp_path):
    clean = good_folder(tmp_path / "clean", 20)
    mixed = tmp_path / "mixed"
    shutil.copytree(clean, mixed)
    words = break_in_eight_ways(mixed)
    assert all(record.status == "done" for record in run(clean, tmp_path / "out_clean"))
    records = run(mixed, tmp_path / "out", quarantine=tmp_path / "quarantine")
    failed = [record for record in records if record.status == "failed"]
    assert [record.case for record in failed] == [f"case{number:02d}" for number in range(8)]
    for record, word in zip(failed, words, strict=True):
        assert word in record.reason, record
        kept = tmp_path / "quarantine" / record.case / f"{record.case}.nii.gz"
        assert kept.read_bytes() == (mixed / kept.name).read_bytes()
    assert len({record.reason for record in failed}) == 8
    masks = sorted(path.name for path in (tmp_path / "out" / "masks").iterdir())
    assert masks == [f"case{number:02d}.nii.gz" for number in range(8, 20)]
    for name in masks:
        assert (tmp_path / "out/masks" / name).read_bytes() == (tmp_path / "out_clean/masks" / name).read_bytes()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"] == {"done": 12, "held": 0, "failed": 8, "skipped": 0}


def test_mask_and_volumes_are_those_of_the_thresholds(tmp_path):
    affine = np.diag([2.0, 1.0, 1.5, 1.0])
    source = save_head(tmp_path / "a.nii.gz", affine=affine)
    model = small_model(spacing_mm=(2.0, 1.0, 1.5))
    (record,) = run(source, tmp_path / "out", model)
    mask = np.asarray(nib.load(tmp_path / "out" / record.output).dataobj)
    values = head().astype(np.float64)
    normalised = (values - values.mean()) / values.std()
    expected = np.zeros(values.shape, np.uint8)
    expected[normalised > 0.5] = 1
    expected[normalised > 1.5] = 2
    np.testing.assert_array_equal(mask, expected)
    assert record.volumes_ml == {
        name: pytest.approx((expected == value).sum() * 0.003) for value, name in ((1, "shell"), (2, "core"))
    }
    assert record.sha256_input == sha256_of_file(source)
    assert record.sha256_output == sha256_of_file(tmp_path / "out" / record.output)


def test_a_repeat_skips_what_is_intact_and_redoes_what_was_damaged_changed_or_removed(tmp_path):
    folder, out = good_folder(tmp_path / "in", 4), tmp_path / "out"
    first = {record.case: record for record in run(folder, out)}
    (out / "masks" / "case00.nii.gz").write_bytes(b"half")
    (out / "qc" / "case01.png").unlink()
    save_head(folder / "case02.nii.gz", seed=9)
    second = {record.case: record for record in run(folder, out)}
    assert {case: record.status for case, record in second.items()} == {
        "case00": "done", "case01": "done", "case02": "done", "case03": "skipped",
    }  # fmt: skip
    assert second["case00"].sha256_output == first["case00"].sha256_output
    assert second["case02"].sha256_output != first["case02"].sha256_output
    assert all(record.status == "skipped" for record in run(folder, out))
    assert all(record.status == "done" for record in run(folder, out, small_model(sha256="cd" * 32)))


def test_a_case_that_breaks_later_loses_its_old_mask(tmp_path):
    folder, out = good_folder(tmp_path / "in", 1), tmp_path / "out"
    run(folder, out)
    (folder / "case00.nii.gz").write_bytes(b"")
    (record,) = run(folder, out)
    assert record.status == "failed"
    assert not list((out / "masks").iterdir())
    assert not list((out / "qc").iterdir())


def test_a_case_whose_journal_line_was_cut_by_a_kill_is_predicted_again(tmp_path):
    folder, out = good_folder(tmp_path / "in", 2), tmp_path / "out"
    clean = {record.case: record.sha256_output for record in run(folder, out)}
    journal = out / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-25])
    (out / "masks" / ".writing-abc.nii.gz").write_bytes(b"half")
    records = run(folder, out)
    assert [record.status for record in records] == ["skipped", "done"]
    assert {record.case: record.sha256_output for record in records} == clean
    assert not list(out.rglob(".writing-*"))
    assert set(Journal(out).records) == {"case00", "case01"}


def test_an_unexpected_error_fails_one_case_and_its_message_is_not_repeated(tmp_path):
    folder = good_folder(tmp_path / "in", 3)
    model = small_model()
    prepare = model.preprocessing

    def odd(data):
        if "case01" in data["image"][0]:
            raise TypeError("JANE DOE")
        return prepare(data)

    records = run(folder, tmp_path / "out", replace(model, preprocessing=odd))
    assert [record.status for record in records] == ["done", "failed", "done"]
    assert "TypeError at test_batch.py" in records[1].reason
    assert "JANE" not in (tmp_path / "out" / "manifest.json").read_text()


def test_an_output_that_is_not_finite_is_a_failure_and_not_an_empty_mask(tmp_path):
    model = small_model()
    model.network.bias.data[:] = float("nan")
    (record,) = run(good_folder(tmp_path / "in", 1), tmp_path / "out", model)
    assert (record.status, record.reason) == ("failed", "the network's output is not finite")


def test_words_in_a_header_reach_no_file_of_the_output(tmp_path):
    image = nib.Nifti1Image(head(), np.eye(4))
    canary = "CANARY^JANE"
    image.header["descrip"] = canary.encode()
    image.header["aux_file"] = canary.encode()
    image.header["db_name"] = canary.encode()
    image.header["intent_name"] = canary.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", canary.encode()))
    nib.save(image, tmp_path / "a.nii.gz")
    (record,) = run(tmp_path / "a.nii.gz", tmp_path / "out", probabilities=True)
    assert record.status == "done"
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            data = gzip.decompress(data) if path.name.endswith(".gz") else data
            assert canary.encode() not in data, path


def test_case_outside_of_training_is_predicted_and_held_with_warnings(tmp_path):
    affine = np.diag([3.0, 1.0, 1.0, 1.0])
    save_head(tmp_path / "a.nii.gz", shape=(20, 90, 18), affine=affine)
    (record,) = run(tmp_path / "a.nii.gz", tmp_path / "out")
    assert record.status == "held"
    assert record.warnings == (
        "spacing left-right 3 mm, trained on 1 mm",
        "size back-front 90 voxels, trained on 16 to 32",
    )


def test_manifest_csv_holds_no_formula_and_has_a_column_for_each_class(tmp_path):
    listed = tmp_path / "list.csv"
    save_head(tmp_path / "a.nii.gz")
    listed.write_text('case,image\n"=cmd()",a.nii.gz\n"@x",=missing.nii.gz\n')
    records = run(listed, tmp_path / "out")
    assert sorted(record.status for record in records) == ["done", "failed"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "manifest.csv").read_text())))
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert {"shell (mL)", "core (mL)"} <= set(rows[0])


def test_page_shows_every_case_and_escapes_all_texts(tmp_path):
    listed = tmp_path / "list.json"
    save_head(tmp_path / "a.nii.gz")
    listed.write_text(json.dumps([{"case": "ok", "image": "a.nii.gz"}, {"case": "b", "image": "<script>1</script>"}]))
    run(listed, tmp_path / "out", small_model(classes={1: "<b>shell</b>", 2: "core"}))
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'src="qc/ok.png"' in page
    assert "<script>1" not in page
    assert "<b>shell" not in page
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page


def test_a_stopped_batch_starts_no_further_case_and_its_repetition_predicts_the_rest(tmp_path):
    folder, out = good_folder(tmp_path / "in", 4), tmp_path / "out"
    model = small_model()
    finished = []
    batch = Batch(model, out)
    batch.run(find_jobs(folder, model.channels), lambda *state: finished.append(state), lambda: len(finished) > 0)
    assert 1 <= len(finished) < 4
    assert json.loads((out / "manifest.json").read_text())["finished"] is None
    statuses = [record.status for record in run(folder, out)]
    assert statuses.count("skipped") == len(finished)
    assert statuses.count("done") == 4 - len(finished)
