"""Masks as DICOM SEG on the source slices, and volumes as a structured report, written by highdicom."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from pipeline.inference.dicom.case import DicomCase, DicomError
from pipeline.inference.dicom.segments import (
    MANUFACTURER,
    UTF_8,
    SegmentationModel,
    completed,
    dated,
    descriptions,
    identifier,
    moment_of,
    segments_of,
    series_description,
)
from pipeline.inference.dicom.tilt import back_on_slices
from pipeline.inference.dicom.volume import grid_of, in_nifti_order, in_slice_order, read_headers, tilt_of
from pipeline.system.files import atomic_path
from pipeline.version import __version__

_SEG_SERIES, _SR_SERIES = 1000, 2000
"""Offsets that are added to the number of the source series."""

_MILLILITER = Code("mL", "UCUM", "milliliter")
_LARGEST_SERIES = 2**31 - 1 - _SR_SERIES


@dataclass(frozen=True, slots=True)
class ResultSettings:
    """Options of the DICOM results.

    Parameters
    ----------
    omit_empty_frames
        Omit slices without foreground. Some viewers then show the SEG on wrong slices; False writes all slices.
    report
        Write the structured report (TID 1500) too.
    warnings
        Sentences that the report lists before the volumes.
    made_at
        Date and time of the results; None: those of the source series, so that a repetition gives the same bytes.
    """

    omit_empty_frames: bool = True
    report: bool = True
    warnings: tuple[str, ...] = ()
    made_at: datetime | None = None


def write_results(
    case: DicomCase,
    mask: np.ndarray,
    model: SegmentationModel,
    volumes_ml: Mapping[str, float],
    out_folder: Path,
    settings: ResultSettings = ResultSettings(),
) -> list[Path]:
    """Write a mask as DICOM SEG and its volumes as a structured report.

    Parameters
    ----------
    case
        The series that was segmented.
    mask
        Label values (columns, rows, slices) on the grid of `to_nifti`; 0 is background. A SEG without any foreground
        is valid: it states that nothing was found.
    model
        The model that predicted the mask.
    volumes_ml
        Volume in mL by name of the class.
    out_folder
        The folder of the results.
    settings
        Options of the results.

    Returns
    -------
    list of Path
        `<case>_seg.dcm` and, if requested, `<case>_sr.dcm`.

    Raises
    ------
    DicomError
        Where the mask is on another grid or has values that the model does not name, or the source cannot be read.
    """
    error = case.error()
    if error:
        raise error
    sources = [completed(header) for header in read_headers(case)]
    numbers = _numbered(case, mask, model)
    planes = _on_sources(case, numbers, sources)
    moment = settings.made_at or moment_of(sources[0])
    try:
        segmentation = _segmentation(planes, numbers, model, sources, settings.omit_empty_frames, moment)
        outputs: dict[str, Dataset] = {"seg": segmentation}
        if settings.report and any(segment.name in volumes_ml for segment in segments_of(model)):
            outputs["sr"] = _report(segmentation, model, volumes_ml, sources, moment, settings.warnings)
    except (ValueError, TypeError, AttributeError, KeyError) as reason:
        # highdicom's message may repeat values of the header: only the type of its error is reported.
        problem = f"highdicom could not make a SEG with the headers of the series ({type(reason).__name__})"
        raise DicomError(case.id, problem, "check its headers with dciodvfy, and export the series again") from reason
    return [_write(output, out_folder / f"{case.id}_{kind}.dcm") for kind, output in outputs.items()]


def _segmentation(
    planes: hd.Volume | np.ndarray,
    numbers: np.ndarray,
    model: SegmentationModel,
    sources: list[Dataset],
    omit_empty_frames: bool,
    moment: datetime,
) -> hd.seg.Segmentation:
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=planes,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions(model),
        series_instance_uid=identifier("SEG series", sources, model),
        series_number=_series_number(sources[0], _SEG_SERIES),
        sop_instance_uid=identifier("SEG", sources, model, numbers),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=model.name[:64],
        software_versions=__version__,
        device_serial_number=model.sha256[:16] or "0",
        omit_empty_frames=omit_empty_frames and bool(numbers.any()),
        content_label="SEGMENTATION",
        content_description=series_description("segmentation", model),
        series_description=series_description("SEG", model),
        specific_character_set=UTF_8,
    )
    organization = generate_uid(entropy_srcs=["dimensions", str(seg.SOPInstanceUID)])
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return dated(seg, moment)


def _report(
    segmentation: hd.seg.Segmentation,
    model: SegmentationModel,
    volumes_ml: Mapping[str, float],
    sources: list[Dataset],
    moment: datetime,
    warnings: Sequence[str],
) -> hd.sr.ComprehensiveSR:
    seg_uid = str(segmentation.SOPInstanceUID)
    groups = [
        hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(
                uid=generate_uid(entropy_srcs=["tracking", seg_uid, str(segment.number)]), identifier=segment.label
            ),
            referenced_segment=hd.sr.ReferencedSegment(
                sop_class_uid=str(segmentation.SOPClassUID),
                sop_instance_uid=seg_uid,
                segment_number=segment.number,
                source_series=hd.sr.SourceSeriesForSegmentation(str(sources[0].SeriesInstanceUID)),
            ),
            finding_category=segment.category,
            finding_type=segment.type,
            algorithm_id=hd.sr.AlgorithmIdentification(
                name=model.name, version=model.version, parameters=[f"weights_sha256={model.sha256}"]
            ),
            measurements=[
                hd.sr.Measurement(
                    name=codes.SCT.Volume, value=round(float(volumes_ml[segment.name]), 4), unit=_MILLILITER
                )
            ],
        )
        for segment in segments_of(model)
        if segment.name in volumes_ml
    ]
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=["device", model.name, model.version, model.sha256]),
            name=model.name,
            manufacturer_name=MANUFACTURER,
            model_name=model.version,
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    items = content[0].ContentSequence
    for comment in _comments(warnings):
        items.insert(len(items) - 1, comment)  # the measurements are the last item
    document = hd.sr.ComprehensiveSR(
        evidence=[segmentation, *sources],
        content=content,
        series_instance_uid=identifier("SR series", sources, model),
        series_number=_series_number(sources[0], _SR_SERIES),
        sop_instance_uid=generate_uid(
            entropy_srcs=["SR", seg_uid, *(f"{k}={v}" for k, v in sorted(volumes_ml.items())), *warnings]
        ),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        series_description=series_description("volumes", model),
        specific_character_set=UTF_8,
    )
    return dated(document, moment)


def _comments(warnings: Sequence[str]) -> list[hd.sr.TextContentItem]:
    """Return a comment for each warning; TID 1500 is extensible, so that the root of the report may hold them."""
    return [
        hd.sr.TextContentItem(
            name=codes.DCM.Comment,
            value=f"Warning: {warning}",
            relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
        )
        for warning in warnings
    ]


def _numbered(case: DicomCase, mask: np.ndarray, model: SegmentationModel) -> np.ndarray:
    """Return the mask with label values replaced by segment numbers, 1 to n without gaps."""
    numbers = np.zeros(mask.shape, dtype=np.uint8 if len(model.classes) < 256 else np.uint16)
    for segment in segments_of(model):
        numbers[mask == segment.value] = segment.number
    unknown = sorted({int(value) for value in np.unique(mask)} - {0, *model.classes})
    if unknown:
        raise DicomError(case.id, f"the mask has values without a class: {unknown}", "name them in the bundle")
    return numbers


def _on_sources(case: DicomCase, numbers: np.ndarray, sources: list[Dataset]) -> hd.Volume | np.ndarray:
    """Return the mask in slice order: as a volume in space, or for tilted slices as an array parallel to `sources`."""
    tilt = tilt_of(case, sources)
    if tilt:
        _check_shape(case, numbers, tilt.shape[::-1])
        return back_on_slices(numbers.T, tilt)
    grid = in_nifti_order(grid_of(case, sources))
    _check_shape(case, numbers, grid.spatial_shape)
    return in_slice_order(grid.with_array(numbers))


def _check_shape(case: DicomCase, mask: np.ndarray, shape: tuple[int, ...]) -> None:
    if mask.shape != tuple(shape):
        sizes = " × ".join(map(str, mask.shape)), " × ".join(map(str, shape))
        problem = f"the mask has {sizes[0]} voxels, the series {sizes[1]}"
        raise DicomError(case.id, problem, "predict on the grid of the series")


def _series_number(source: Dataset, offset: int) -> int:
    return min(max(int(source.get("SeriesNumber") or 0), 0), _LARGEST_SERIES) + offset


def _write(output: Dataset, path: Path) -> Path:
    content = io.BytesIO()
    output.save_as(content, enforce_file_format=True)
    # pydicom would report a full disk as an error without its number, by which the batch recognizes it.
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return path
