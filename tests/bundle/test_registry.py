import json

import mlflow
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.bundle.model import load_model
from pipeline.bundle.registry import register_bundle
from pipeline.bundle.testvector import predict
from pipeline.errors import BundleError


@pytest.fixture
def registered(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield register_bundle(bundle, "balls", tmp_path)
    mlflow.set_tracking_uri(None)


def test_champion_is_the_bundle_with_signature_and_without_pickle(registered, bundle, tiny_dataset, tmp_path):
    assert registered["uri"] == "models:/balls@champion"
    model = load_model("models:/balls@champion")
    assert model.sha256 == load_model(bundle).sha256
    image = tiny_dataset / "imagesTr/case_0.nii.gz"
    mask, _ = predict(load_model(bundle), [image])
    found, _ = predict(model, [image])
    assert np.array_equal(found, mask)

    version = mlflow.MlflowClient().get_model_version_by_alias("balls", "champion")
    assert version.tags["sha256"] == model.sha256
    folder = mlflow.artifacts.download_artifacts("models:/balls@champion", dst_path=str(tmp_path / "copy"))
    files = [path.name for path in (tmp_path / "copy").rglob("*")]
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]
    loaded = mlflow.pyfunc.load_model(folder)
    assert {column.name for column in loaded.metadata.signature.inputs} == {"image", "mask"}
    written = tmp_path / "mask.nii.gz"
    loaded.predict(pd.DataFrame({"image": [str(image)], "mask": [str(written)]}))
    assert np.array_equal(np.asarray(nib.load(written).dataobj), mask)


def test_an_unregistered_name_is_refused_in_one_line(registered):
    with pytest.raises(BundleError, match="models:/nobody@champion"):
        load_model("models:/nobody@champion")


def test_a_malformed_name_is_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match="is not a valid name"):
        register_bundle(bundle, "../x", tmp_path)


def test_a_registered_model_of_other_kind_is_refused(registered, tmp_path):
    (tmp_path / "code.py").write_text(
        "import mlflow\n\nclass M(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n        return model_input\n\n"
        "mlflow.models.set_model(M())\n"
    )
    mlflow.pyfunc.log_model(name="other", python_model=str(tmp_path / "code.py"), registered_model_name="other")
    with pytest.raises(BundleError, match="does not hold a bundle"):
        load_model("models:/other/1")
    assert json.dumps(registered)
