"""The table of patients: read as people write it, refused where it leaves a doubt."""

import pytest

from glombridge.errors import InputError
from glombridge.tiles.patients import PatientTable


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "patients.csv"
    path.write_bytes(text.encode(encoding))
    return PatientTable.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "image,patient\nK1.svs,A\nK2.svs,B\n",
        "Patient;Image;note\nA;K1.svs;x\nB;K2.svs;\n",
        "image\tpatient\r\nK1.svs\tA\r\n\r\nK2.svs\tB",
        '\ufeffimage , patient\n"K1.svs", A \nK2,B\n',
        "image,patient\nK1.svs,A\nK1.svs,A\nK2.svs,B\n",
    ],
    ids=[
        "commas",
        "semicolons, other order",
        "tabs, empty line",
        "as Excel saves it",
        "said twice",
    ],
)
def test_tables_as_people_write_them(tmp_path, text):
    found = table(tmp_path, text)
    assert (found.patient_of("K1.svs"), found.patient_of("K2.svs")) == ("A", "B")


def test_the_whole_name_comes_before_the_name_without_its_ending(tmp_path):
    found = table(tmp_path, "image,patient\nK1,A\nK1.svs,B\n")
    assert found.patient_of("K1.svs") == "B"
    assert found.patient_of("K1.tif") == "A"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column 'image' and no column 'patient'"),
        ("slide,patient\nK1,A\n", "has no column 'image'"),
        ("image,patient\nK1,A\nK1,B\n", r"gives image 'K1' two patients, 'A' and 'B' \(line 3\)"),
        ("image,patient\nK1,\n", "line 2 .* lacks the image or the patient"),
        ("image,patient\n,A\n", "line 2 .* lacks the image or the patient"),
        ("image,patient\nK1\n", "line 2 .* lacks the image or the patient"),
    ],
    ids=["empty", "other column", "two patients", "no patient", "no image", "short line"],
)
def test_a_table_that_leaves_a_doubt_is_refused(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        table(tmp_path, text)


def test_a_table_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        PatientTable.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        table(tmp_path, "image,patient\nK1,Ä\n", "latin-1")


def test_an_image_without_a_row_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"'K9\.svs': the patient is not known .* no row for it"):
        table(tmp_path, "image,patient\nK1,A\n").patient_of("K9.svs")
