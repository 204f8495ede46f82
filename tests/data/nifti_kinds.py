"""Malformed and odd-but-right image and label pairs, each written by a function of its own kind."""

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (7, 6, 5)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])

Writer = Callable[[Path], None]


def image_array(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def label_array(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(0, max(1, size // 2)) for size in shape)] = 1
    return label


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def write_pair(folder: Path, name: str = "a", seed: int = 0) -> tuple[Path, Path]:
    """Write a good image and label."""
    return (
        save(folder / f"{name}.nii.gz", image_array(seed)),
        save(folder / f"{name}_label.nii.gz", label_array()),
    )


def patched(path: Path, *patches: tuple[int, str, object]) -> None:
    """Overwrite header fields of a .nii.gz: (byte offset, struct format, value)."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    for offset, layout, value in patches:
        struct.pack_into(layout, data, offset, *(value if isinstance(value, tuple) else (value,)))
    path.write_bytes(gzip.compress(bytes(data), mtime=0))


def image(folder: Path) -> Path:
    return folder / "a.nii.gz"


def label(folder: Path) -> Path:
    return folder / "a_label.nii.gz"


def _patch_image(*patches: tuple[int, str, object]) -> Writer:
    return lambda folder: patched(image(folder), *patches)


def _truncated_gzip(folder: Path) -> None:
    path = image(folder)
    path.write_bytes(path.read_bytes()[:-40])


def _gzip_without_trailer(folder: Path) -> None:
    path = image(folder)
    path.write_bytes(path.read_bytes()[:-8])


def _wrong_crc(folder: Path) -> None:
    data = bytearray(image(folder).read_bytes())
    data[-8] ^= 0xFF
    image(folder).write_bytes(data)


def _wrong_length_trailer(folder: Path) -> None:
    data = bytearray(image(folder).read_bytes())
    data[-2] ^= 0xFF
    image(folder).write_bytes(data)


def _flipped_bits(folder: Path) -> None:
    data = bytearray(image(folder).read_bytes())
    data[len(data) // 2] ^= 0x55
    image(folder).write_bytes(data)


def _garbage_after_gzip(folder: Path) -> None:
    image(folder).write_bytes(image(folder).read_bytes() + b"garbage")


def _short_voxels(folder: Path) -> None:
    data = gzip.decompress(image(folder).read_bytes())
    image(folder).write_bytes(gzip.compress(data[:-100]))


def _surplus_voxels(folder: Path) -> None:
    data = gzip.decompress(image(folder).read_bytes())
    image(folder).write_bytes(gzip.compress(data + b"\1" * 400))


def _zlib_bomb(folder: Path) -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = gzip.decompress(image(folder).read_bytes())
    packed = stream.compress(head) + stream.compress(bytes(64 << 20)) + stream.flush()
    image(folder).write_bytes(packed)


def _not_gzip(folder: Path) -> None:
    image(folder).write_bytes(gzip.decompress(image(folder).read_bytes()))


def _text(folder: Path) -> None:
    image(folder).write_bytes(gzip.compress(b"<html>404 not found</html>" * 30))


def _tiny(folder: Path) -> None:
    image(folder).write_bytes(gzip.compress(b"\x5c\x01\0\0"))


def _image(array: np.ndarray, affine: np.ndarray = AFFINE) -> Writer:
    return lambda folder: (save(image(folder), array, affine), None)[1]


def _label(array: np.ndarray, affine: np.ndarray = AFFINE) -> Writer:
    return lambda folder: (save(label(folder), array, affine), None)[1]


def _with(array: np.ndarray, position: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[position] = value
    return array


def _rgb(folder: Path) -> None:
    colours = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(colours, AFFINE), image(folder))


def _pixdim_against_sform(folder: Path) -> None:
    patched(image(folder), (80, "<3f", (1.0, 1.0, 1.0)))


def _qform_only(folder: Path, *patches: tuple[int, str, object]) -> None:
    patched(image(folder), (252, "<h", 1), (254, "<h", 0), *patches)


def _moved(*offset: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] = offset
    return affine


def _bad_extension(folder: Path) -> None:
    data = bytearray(gzip.decompress(image(folder).read_bytes()))
    data[352:352] = struct.pack("<ii", 9999, 6) + bytes(24)
    data[348] = 1
    struct.pack_into("<f", data, 108, 384.0)
    image(folder).write_bytes(gzip.compress(bytes(data)))


def _line_ends_converted(folder: Path) -> None:
    nib.save(nib.Nifti2Image(image_array(), AFFINE), image(folder))
    patched(image(folder), (8, "4s", b"\n\n\x1a\n"))


def _pair_magic(folder: Path) -> None:
    patched(image(folder), (344, "4s", b"ni1\0"))


ROTATED = np.array([[0.0, -2.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1.0]])

# Kind: (how it is made from a good pair, the file that must be named, words that the line must have).
MALFORMED: dict[str, tuple[Writer, str, str]] = {
    "gzip stream cut short": (_truncated_gzip, "a.nii.gz", "cut short"),
    "gzip stream without its trailer": (_gzip_without_trailer, "a.nii.gz", "cut short"),
    "wrong CRC": (_wrong_crc, "a.nii.gz", "incorrect data check"),
    "wrong length in the gzip trailer": (_wrong_length_trailer, "a.nii.gz", "incorrect length check"),
    "flipped bits": (_flipped_bits, "a.nii.gz", "gzip stream"),
    "garbage after the gzip stream": (_garbage_after_gzip, "a.nii.gz", "7 bytes of garbage"),
    "fewer voxels than claimed": (_short_voxels, "a.nii.gz", "cut short"),
    "more voxels than claimed": (_surplus_voxels, "a.nii.gz", "400 bytes more"),
    "zip bomb": (_zlib_bomb, "a.nii.gz", "holds more than"),
    "not gzip though named .gz": (_not_gzip, "a.nii.gz", "not compressed"),
    "no NIfTI at all": (_text, "a.nii.gz", "does not start as a NIfTI file"),
    "shorter than a header": (_tiny, "a.nii.gz", "fewer than the 348"),
    "0 bytes": (lambda folder: image(folder).write_bytes(b"") and None, "a.nii.gz", "0 bytes"),
    "missing image": (lambda folder: image(folder).unlink(), "a.nii.gz", "does not exist"),
    "missing label": (lambda folder: label(folder).unlink(), "a_label.nii.gz", "does not exist"),
    "a folder in place of the image": (
        lambda folder: (image(folder).unlink(), image(folder).mkdir(), None)[2],
        "a.nii.gz",
        "is not a file",
    ),
    "half a .hdr/.img pair": (_pair_magic, "a.nii.gz", "half of a .hdr/.img pair"),
    "wrong magic": (_patch_image((344, "4s", b"abc\0")), "a.nii.gz", "magic"),
    "line ends converted in NIfTI-2": (_line_ends_converted, "a.nii.gz", "line ends"),
    "30 GB claimed by a small file": (_patch_image((42, "<3h", (2000, 2000, 2000))), "a.nii.gz", "29.8 GiB, over the"),
    "negative dimension": (_patch_image((42, "<h", -7)), "a.nii.gz", "shape of -7×6×5"),
    "zero dimension": (_patch_image((44, "<h", 0)), "a.nii.gz", "shape of 7×0×5"),
    "99 dimensions": (_patch_image((40, "<h", 99)), "a.nii.gz", "99 dimensions"),
    "2D image": (_image(image_array(shape=(7, 6))), "a.nii.gz", "is 2D (7×6)"),
    "5D image": (_image(image_array(shape=(7, 6, 5, 1, 2))), "a.nii.gz", "is 5D"),
    "RGB": (_rgb, "a.nii.gz", "RGB color"),
    "complex": (_image(image_array().astype(np.complex64)), "a.nii.gz", "complex64"),
    "unknown data type": (_patch_image((70, "<h", 999)), "a.nii.gz", "data type 999"),
    "bits against data type": (_patch_image((72, "<h", 8)), "a.nii.gz", "float32 voxels of 8 bits"),
    "voxels inside the header": (_patch_image((108, "<f", 100.0)), "a.nii.gz", "at byte 100"),
    "voxel offset NaN": (_patch_image((108, "<f", np.nan)), "a.nii.gz", "at byte nan"),
    "infinite slope": (_patch_image((112, "<2f", (np.inf, 0.0))), "a.nii.gz", "slope inf"),
    "intercept NaN": (_patch_image((112, "<2f", (1.0, np.nan))), "a.nii.gz", "intercept nan"),
    "NaN in the affine": (_patch_image((280, "<f", np.nan)), "a.nii.gz", "non-finite"),
    "singular affine": (_patch_image((280, "<12f", (0.0,) * 12)), "a.nii.gz", "singular"),
    "two axes alike": (_patch_image((296, "<4f", (2.0, 0.0, 0.0, 0.0)), (84, "<f", 2.0)), "a.nii.gz", "singular"),
    "zero voxel size": (_patch_image((84, "<f", 0.0)), "a.nii.gz", "1×0×3 mm"),
    "negative voxel size": (_patch_image((84, "<f", -2.0)), "a.nii.gz", "1×-2×3 mm"),
    "voxel size NaN": (_patch_image((84, "<f", np.nan)), "a.nii.gz", "nan"),
    "voxel size against sform": (_pixdim_against_sform, "a.nii.gz", "contradicts itself"),
    "quaternion longer than 1": (
        lambda folder: _qform_only(folder, (256, "<3f", (2.0, 2.0, 2.0))),
        "a.nii.gz",
        "no valid orientation",
    ),
    "sform code 77": (_patch_image((254, "<h", 77)), "a.nii.gz", "sform code 77"),
    "header extension past the voxels": (_bad_extension, "a.nii.gz", "extension of 9999 bytes"),
    "NaN voxels": (_image(_with(image_array(), (1, 2, 3), np.nan)), "a.nii.gz", "1 of 210 voxels"),
    "infinite voxels": (_image(_with(image_array(), (1, 2, 3), -np.inf)), "a.nii.gz", "1 of 210 voxels"),
    "beyond float32": (_image(_with(image_array().astype(np.float64), (0, 0, 0), 1e300)), "a.nii.gz", "beyond float32"),
    "constant image": (_image(np.full(SHAPE, 7, np.int16)), "a.nii.gz", "every voxel of channel 0 is 7"),
    "label of another shape": (_label(label_array((7, 6, 6))), "a_label.nii.gz", "shape 7×6×6, not 7×6×5"),
    "label of another spacing": (
        _label(label_array(), np.diag([1.0, 2.0, 2.5, 1.0])),
        "a_label.nii.gz",
        "spacing 1×2×2.5 mm, not 1×2×3 mm",
    ),
    "label of another origin": (_label(label_array(), _moved(0, 0, 9)), "a_label.nii.gz", "origin (0, 0, 9) mm"),
    "label mirrored": (_label(label_array(), np.diag([-1.0, 2, 3, 1])), "a_label.nii.gz", "direction, LAS not RAS"),
    "label with fractions": (_label(label_array() * np.float32(0.5)), "a_label.nii.gz", "fractions, e.g. 0.5"),
    "label with NaN": (_label(_with(label_array().astype(np.float32), (0, 0, 0), np.nan)), "a_label.nii.gz", "NaN"),
    "label below 0": (_label(label_array().astype(np.int16) * -1), "a_label.nii.gz", "from -1 to 0"),
    "label of an unknown class": (_label(label_array() * np.uint8(9)), "a_label.nii.gz", "9 (18 voxels)"),
    "label 4D": (_label(label_array((7, 6, 5, 2))), "a_label.nii.gz", "4D (7×6×5×2) but must be a 3D label"),
    "label that is an image": (
        _label(np.arange(7 * 6 * 7, dtype=np.int16).reshape(7, 6, 7)),
        "a_label.nii.gz",
        "294 different values",
    ),
    "label and image the same file": (
        lambda folder: (label(folder).unlink(), label(folder).symlink_to(image(folder)), None)[2],
        "a_label.nii.gz",
        "both image and label",
    ),
}


def _replaced(folder: Path, name: str) -> Path:
    """Take the image away and return where it shall be instead; the scan is given whatever image lies there."""
    image(folder).unlink()
    return folder / name


def _both(shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE) -> Writer:
    def write(folder: Path) -> None:
        save(image(folder), image_array(shape=shape), affine)
        save(label(folder), label_array(shape), affine)

    return write


def _scaled_int16(folder: Path) -> None:
    volume = nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), AFFINE)
    volume.header.set_slope_inter(0.5, -3)
    nib.save(volume, image(folder))
    patched(image(folder), (112, "<2f", (0.5, -3.0)))


def _big_endian(folder: Path) -> None:
    for path, array in ((image(folder), image_array()), (label(folder), label_array().astype(np.int16))):
        header = nib.Nifti1Header(endianness=">")
        header.set_data_dtype(array.dtype.newbyteorder(">"))
        nib.save(nib.Nifti1Image(array, AFFINE, header), path)


def _symlink(folder: Path) -> None:
    image(folder).rename(folder / "elsewhere.nii.gz")
    image(folder).symlink_to(folder / "elsewhere.nii.gz")


def _two_members(folder: Path) -> None:
    data = gzip.decompress(image(folder).read_bytes())
    image(folder).write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:]))


def _rescaled_label(folder: Path) -> None:
    stored = nib.Nifti1Image(label_array() * np.uint8(255), AFFINE)
    nib.save(stored, label(folder))
    patched(label(folder), (112, "<2f", (1 / 255, 0.0)))


OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0] * np.array([1.0, 2.0, 3.0])
OBLIQUE[:3, 3] = 5, -7, 1
LPS = np.diag([-1.0, -2.0, 3.0, 1.0])
PERMUTED = np.array([[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 0, 1.0]])

ODD_BUT_RIGHT: dict[str, Writer] = {
    "plain": lambda folder: None,
    "one slice": _both((7, 6, 1)),
    "one column": _both((1, 6, 5)),
    "one voxel high and wide": _both((1, 1, 5)),
    "LPS axes": _both(affine=LPS),
    "permuted axes": _both(affine=PERMUTED),
    "oblique": _both(affine=OBLIQUE),
    "int16 with slope": _scaled_int16,
    "big-endian": _big_endian,
    "spaces and non-ASCII in the name": lambda folder: (
        save(_replaced(folder, "Müller 1 ä.nii.gz"), image_array()) and None
    ),
    "plain .nii": lambda folder: save(_replaced(folder, "a.nii"), image_array()) and None,
    "upper-case suffix": lambda folder: image(folder).rename(folder / "a.NII.GZ") and None,
    "symlink": _symlink,
    "gzip of several members": _two_members,
    "zeros after the gzip stream": lambda folder: (
        image(folder).write_bytes(image(folder).read_bytes() + bytes(512)) and None
    ),
    "NIfTI-2": lambda folder: nib.save(nib.Nifti2Image(image_array(), AFFINE), image(folder)),
    "uint8 image": _image(image_array().astype(np.uint8)),
    "int64 label": lambda folder: nib.save(
        nib.Nifti1Image(label_array().astype(np.int64), AFFINE, dtype=np.int64), label(folder)
    ),
    "float label": _label(label_array().astype(np.float32)),
    "label rescaled by its writer": _rescaled_label,
    "4D image with one channel": _image(image_array()[..., None]),
    "label with a fourth dimension of 1": _label(label_array()[..., None]),
    "empty label": _label(np.zeros(SHAPE, np.uint8)),
    "qform alone": lambda folder: _qform_only(folder),
    "qfac 0": lambda folder: patched(image(folder), (76, "<f", 0.0)),
    "affine off by rounding": _label(label_array(), AFFINE + np.full((4, 4), 1e-5) * np.array([[1], [1], [1], [0]])),
    "slope NaN, which means none": lambda folder: patched(image(folder), (112, "<2f", (np.nan, np.nan))),
}

THE_34 = (
    "gzip stream cut short", "gzip stream without its trailer", "wrong CRC", "flipped bits",
    "garbage after the gzip stream", "fewer voxels than claimed", "more voxels than claimed", "zip bomb",
    "not gzip though named .gz", "no NIfTI at all", "0 bytes", "missing label", "wrong magic",
    "30 GB claimed by a small file", "negative dimension", "2D image", "RGB", "complex", "bits against data type",
    "infinite slope", "NaN in the affine", "singular affine", "voxel size against sform", "NaN voxels",
    "infinite voxels", "constant image", "label of another shape", "label of another spacing",
    "label of another origin", "label mirrored", "label with fractions", "label below 0", "label of an unknown class",
    "label 4D",
)  # fmt: skip
"""The pairs that `benchmarks/integrity.py` gives to MONAI's usual chain too."""
