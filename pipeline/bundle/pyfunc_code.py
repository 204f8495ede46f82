"""The code that MLflow stores beside a registered bundle ("models from code": nothing is pickled).

Registered bundles keep their copy of this file, so the names that it imports must stay.
"""

from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pandas as pd


class SegmentationBundle(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """A model of rows with ``image``, NIfTI files separated by ``;``, and ``mask``, the file to write."""

    def load_context(self, context: Any) -> None:
        """Open the bundle as data."""
        from pipeline.bundle.model import load_model

        self.model = load_model(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Write the mask of each row and return the paths."""
        from pipeline.network.prediction import write_mask

        written = []
        for image, mask in zip(model_input["image"], model_input["mask"], strict=True):
            paths = [Path(part) for part in image.split(";")]
            prepared = self.model.prepare(paths)
            voxels, _ = self.model.finish(prepared, self.model.infer(prepared))
            source: Any = nib.load(paths[0])
            write_mask(Path(mask), voxels, np.asarray(source.affine))
            written.append(mask)
        return pd.DataFrame({"mask": written})


mlflow.models.set_model(SegmentationBundle())
