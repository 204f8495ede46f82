"""A batch on Ray gives the results of a local one, and a case that kills its worker fails alone."""

import json
import os
import signal
from dataclasses import replace

import pytest
import small_model as small
from typer.testing import CliRunner

from pipeline.cli.app import build_app

ray = pytest.importorskip("ray")


def without_times(manifest):
    cases = [{**case, "seconds": 0, "finished": ""} for case in manifest["cases"]]
    return {**manifest, "started": "", "finished": "", "cases": cases}


def predicted(*arguments):
    result = CliRunner().invoke(build_app(), ["predict", *map(str, arguments), "--json"])
    if not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


def files(folder):
    changing = ("manifest.json", "manifest.csv", "journal.jsonl", "index.html", ".lock")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in changing
    }


@pytest.fixture
def _small_bundle(monkeypatch):
    """Let the command and its workers load the small model, which is sent to them by value."""
    ray.cloudpickle.register_pickle_by_value(small)

    def load(*_, **__):
        return small.small_model()

    monkeypatch.setattr("pipeline.bundle.model.load_model", load)
    yield
    ray.cloudpickle.unregister_pickle_by_value(small)


@pytest.mark.usefixtures("_small_bundle")
def test_ray_writes_the_same_masks_pictures_and_manifest_and_one_bad_case_stops_no_other(tmp_path):
    images = tmp_path / "in"
    for number in range(4):
        small.save_head(images / f"case{number}.nii.gz", number)
    (images / "broken.nii.gz").write_bytes((images / "case0.nii.gz").read_bytes()[:-40])
    code, local = predicted("bundle", images, "--out", tmp_path / "local")
    ray_code, by_ray = predicted("bundle", images, "--out", tmp_path / "ray", "--executor", "ray", "--cores", 1)
    assert code == ray_code == 1
    assert by_ray["counts"] == {"done": 4, "held": 0, "failed": 1, "skipped": 0}
    assert without_times(by_ray) == without_times(local)
    masks = files(tmp_path / "local")
    assert len(masks) == 8
    assert files(tmp_path / "ray") == masks
    again, repeated = predicted("bundle", images, "--out", tmp_path / "ray", "--executor", "ray", "--workers", 1)
    assert again == 1
    assert repeated["counts"] == {"done": 0, "held": 0, "failed": 1, "skipped": 4}
    assert files(tmp_path / "ray") == masks


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--executor", "slurm"], "--executor slurm: is unknown"),
        (["--address", "auto"], "give --executor ray too"),
        (["--executor", "ray", "--workers", "0"], "must be 1 or more"),
    ],
)
def test_contradicting_options_of_a_cluster_are_refused(tmp_path, options, words):
    result = CliRunner().invoke(build_app(), ["predict", "b", str(tmp_path), "--out", str(tmp_path / "o"), *options])
    assert words in str(result.exception)


@pytest.mark.slow
def test_a_case_that_kills_its_worker_fails_and_the_other_cases_of_this_worker_are_done(tmp_path):
    from pipeline.inference.batch import Batch
    from pipeline.inference.options import Options
    from pipeline.inference.ray_batch import RayBatch, WorkerResources
    from pipeline.inference.sources import find_jobs
    from pipeline.system.ray_cluster import ray_connection

    ray.cloudpickle.register_pickle_by_value(small)
    for number in range(8):
        small.save_head(tmp_path / "in" / f"case{number:02d}.nii.gz", number)

    def load():
        model = small.small_model()
        prepare = model.preprocessing

        def deadly(data):
            if "case01" in data["image"][0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return prepare(data)

        return replace(model, preprocessing=deadly)

    model = small.small_model()
    jobs = find_jobs(tmp_path / "in", model.channels)
    local = Batch(model, tmp_path / "local").run(jobs)
    with ray_connection(None, 1) as module:
        batch = RayBatch(module, model, load, tmp_path / "ray", Options(), WorkerResources(cores=1))
        records = {record.case: record for record in batch.run(jobs)}
    assert len(records) == 8
    assert records["case01"].reason == "ended its worker 2 times, most likely because memory ran out"
    for one in local:
        if one.case != "case01":
            assert records[one.case].files == one.files
    assert sorted(path.name for path in (tmp_path / "ray" / "masks").iterdir()) == [
        f"case{number:02d}.nii.gz" for number in range(8) if number != 1
    ]
