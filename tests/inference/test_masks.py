import itertools

import nibabel as nib
import numpy as np
import pytest
from small_model import head, small_model

from pipeline.inference.batch import Batch
from pipeline.inference.masks import write_mask
from pipeline.inference.sources import find_jobs

CODES = ["".join(code) for axes in itertools.permutations(("RL", "AP", "SI")) for code in itertools.product(*axes)]
GEOMETRY = ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("qform", "sform"), [(0, 0), (1, 0), (0, 2), (1, 4)])
def test_geometry_fields_of_the_header_equal_those_of_the_input_bit_for_bit(tmp_path, kind, qform, sform):
    angle = 0.3
    affine = np.array([[-0.9, 0, 0, 80.123], [0, 1.1 * np.cos(angle), -3 * np.sin(angle), -120.7],
                       [0, 1.1 * np.sin(angle), 3 * np.cos(angle), -70.3], [0, 0, 0, 1]])  # fmt: skip
    image = kind(np.zeros((4, 5, 6), np.int16), affine)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "a.nii.gz")
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1, 2, 3] = 2
    write_mask(tmp_path / "mask.nii.gz", mask, tmp_path / "a.nii.gz")
    source, written = nib.load(tmp_path / "a.nii.gz"), nib.load(tmp_path / "mask.nii.gz")
    for field in GEOMETRY:
        one, other = (np.atleast_1d(image.header[field])[:4] for image in (written, source))
        np.testing.assert_array_equal(one, other, err_msg=field)
    np.testing.assert_array_equal(written.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    assert written.get_data_dtype() == np.uint8
    assert type(written) is kind


def test_values_over_255_are_kept(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    write_mask(tmp_path / "mask.nii.gz", np.full((2, 2, 2), 300), tmp_path / "a.nii.gz")
    assert np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj).max() == 300


@pytest.mark.usefixtures("quick_pictures")
def test_every_orientation_gives_the_mask_of_the_same_voxels(tmp_path):
    ras = nib.Nifti1Image(head(), np.diag([1.0, 1.0, 1.0, 1.0]))
    for code in CODES:
        turn = nib.orientations.ornt_transform(nib.io_orientation(ras.affine), nib.orientations.axcodes2ornt(code))
        nib.save(ras.as_reoriented(turn), tmp_path / f"{code}.nii")
    model = small_model()
    records = Batch(model, tmp_path / "out").run(find_jobs(tmp_path, model.channels)[:48])
    assert [record.reason for record in records] == [""] * 48
    masks = {}
    for record in records:
        written = nib.load(tmp_path / "out" / record.output)
        source = nib.load(record.input)
        np.testing.assert_array_equal(written.affine, source.affine)
        masks[record.case] = np.asarray(nib.as_closest_canonical(written).dataobj)
    assert masks["RAS"].any()
    for code in CODES:
        np.testing.assert_array_equal(masks[code], masks["RAS"], err_msg=code)
