"""nnU-Net's own export of a loss that a study has trained by nnU-Net."""

from pipeline.records.folder import StudyFolder
from pipeline.records.study import StudyRecord
from pipeline.trainers.nnunet.request import DEFAULT_CONFIGURATION, DEFAULT_PLANS
from pipeline.trainers.nnunet.trainer_files import trainer_names


def export_command(study: StudyFolder, record: StudyRecord, label: str) -> str:
    """Return the command line by which nnU-Net exports the networks of one loss with all folds.

    Parameters
    ----------
    study
        Folder of the study.
    record
        Its record.
    label
        Label of the loss.
    """
    name = dict(zip(record.labels, trainer_names(record.labels), strict=True))[label]
    request = record.request
    results = (study.trainer / "results").resolve()
    folds = " ".join(map(str, range(record.folds)))
    return (
        f"nnUNet_results={results} nnUNetv2_export_model_to_zip -d 1 -tr {name} "
        f"-c {request.configuration or DEFAULT_CONFIGURATION} -p {request.plans or DEFAULT_PLANS} "
        f"-f {folds} -o {label}.zip"
    )
