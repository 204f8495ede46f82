"""What is installed with this project may be shipped with it: nothing asks for more than the LGPL does."""

import importlib.util
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_licenses.py"


@pytest.fixture(scope="module")
def licenses():
    spec = importlib.util.spec_from_file_location("check_licenses", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Package:
    """Stands in for an installed distribution with these lines of metadata."""

    files = None

    def __init__(self, *lines: tuple[str, str]) -> None:
        self.metadata = Message()
        for key, value in lines:
            self.metadata[key] = value


def test_every_installed_package_is_listed_and_none_is_beyond_the_lgpl():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {line.split()[0].lower() for line in done.stdout.splitlines()}
    assert {"torch", "monai", "pydicom", "highdicom", "pyjpegls", "python-gdcm", "numpy", "pytest"} <= names
    assert "pylibjpeg-libjpeg" not in names


@pytest.mark.parametrize(
    "license",
    ["MIT", "Apache-2.0 AND MIT", "LGPL-3.0-or-later", "GNU Lesser General Public License v3 (LGPLv3)", "MPL-2.0",
     "GNU Library or Lesser General Public License (LGPL)", "GPL-2.0-only OR MIT", "BSD License",
     "(GPL-3.0-only OR MIT) AND BSD-3-Clause",
     "GPL-3.0-or-later WITH GCC-exception-3.1 AND BSD-3-Clause"],
)  # fmt: skip
def test_licenses_up_to_the_lgpl_are_accepted(licenses, license):
    assert licenses.is_acceptable(license)


@pytest.mark.parametrize(
    "license",
    ["GPL-3.0-only", "GPL V3.0", "GNU General Public License v3 (GPLv3) AND Other/Proprietary License",
     "AGPL-3.0-or-later", "GNU Affero General Public License v3",
     "MIT AND GPL-2.0-or-later", "(GPL-3.0-only OR AGPL-3.0-only) AND MIT",
     "SSPL-1.0", "EUPL-1.2"],
)  # fmt: skip
def test_copyleft_beyond_the_lgpl_is_refused(licenses, license):
    assert not licenses.is_acceptable(license)


def test_an_spdx_expression_goes_before_classifiers_and_these_before_the_old_field(licenses):
    old, classifier = ("License", "GPL V3.0"), ("Classifier", "License :: OSI Approved :: MIT License")
    assert licenses.license_of(Package(old)) == "GPL V3.0"
    assert licenses.license_of(Package(old, classifier)) == "MIT License"
    assert licenses.license_of(Package(old, classifier, ("License-Expression", "BSD-3-Clause"))) == "BSD-3-Clause"


def test_a_text_in_place_of_a_name_is_recognized_by_its_words(licenses):
    text = "Copyright 2020\n\nPermission is hereby granted,\nfree of charge, to any person"
    assert licenses.license_of(Package(("License", text))) == "MIT"
    assert licenses.license_in("GNU GENERAL PUBLIC LICENSE\nVersion 3") == "GPL"
    assert licenses.license_in("All rights reserved.") == ""


def test_the_closure_follows_extras_and_leaves_out_what_is_not_installed(licenses):
    found = {package.name for package in licenses.installed_closure([Requirement("highdicom"), Requirement("no-such")])}
    assert {"highdicom", "pydicom", "numpy"} <= found
    assert "no-such" not in found
