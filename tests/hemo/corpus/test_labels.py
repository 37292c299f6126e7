"""Label tables in every form, and what is wrong with them."""

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.corpus.labels import (
    NULL_LABEL,
    RSNA_CLASSES,
    LabelTable,
    labels_of_classes,
    parse_columns,
    parse_labels,
    read_table_file,
)
from hemo.errors import LabelError, SourceError

LONG = "ID,Label\n" + "".join(
    f"ID_{image}_{name},{int(image == 'b' and name in ('any', 'subdural'))}\n"
    for image in ("b", "a")
    for name in ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
)


def as_dict(table: LabelTable) -> dict[str, list[int]]:
    return dict(zip(table.keys.to_pylist(), table.values.tolist(), strict=True))


def test_the_form_of_a_table_in_a_zip_follows_from_its_name():
    table = pa.table({"image_id": ["a"], "sick": [1]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    assert as_dict(parse_labels(buffer.getvalue(), "zip://x.parquet::data.zip")) == {"a": [1]}
    packed = gzip.compress(b"image_id,sick\nb,0\n", mtime=0)
    assert as_dict(parse_labels(packed, "zip://x.csv.gz::data.zip")) == {"b": [0]}


def test_long_csv_has_a_row_an_image_with_any_first():
    table = parse_labels(LONG.encode(), "x.csv")
    assert table.classes == RSNA_CLASSES
    assert as_dict(table) == {"ID_b": [1, 0, 0, 0, 0, 1], "ID_a": [0, 0, 0, 0, 0, 0]}
    assert table.repeated == 0


def test_repeated_rows_are_merged_and_counted():
    again = "".join(line + "\n" for line in LONG.splitlines()[1:7])
    table = parse_labels((LONG + again).encode(), "x.csv")
    assert as_dict(table) == as_dict(parse_labels(LONG.encode(), "x.csv"))
    assert table.repeated == 6


def test_contradicting_rows_are_named_five_at_most():
    rows = "".join(f"ID_{n}_any,0\nID_{n}_any,1\n" for n in range(7))
    with pytest.raises(LabelError, match=r"x\.csv has conflicting rows for ID_0_any, .*ID_4_any and 2 more"):
        parse_labels(("ID,Label\n" + rows).encode(), "x.csv")


def test_a_class_without_its_row_is_null():
    without = LONG.replace("ID_a_subdural,0\n", "")
    assert as_dict(parse_labels(without.encode(), "x.csv"))["ID_a"] == [0, 0, 0, 0, 0, NULL_LABEL]


@pytest.mark.parametrize("wrong", ["ID_a_epidurl", "any", "_any", "ID_a_"])
def test_an_id_without_image_or_class_is_named_with_its_line(wrong):
    with pytest.raises(LabelError, match=rf"line 3: ID '{wrong}' ends with no class"):
        parse_labels(f"ID,Label\nID_a_any,0\n{wrong},0\n".encode(), "x.csv")


@pytest.mark.parametrize("word", ["2", "0.5", "maybe", "-1"])
def test_a_label_that_is_no_label_is_named_with_its_line(word):
    with pytest.raises(LabelError, match=rf"line 3: any is '{word}' for 'b'; a label is 0, 1, yes, no, .* or blank"):
        parse_labels(f"Image,any\na,1\nb,{word}\n".encode(), "x.csv")


def test_wide_csv_keeps_its_order_of_classes_and_reads_blanks_as_null():
    table = parse_labels(b"path,pneumonia,covid\nx/a.png,1,\nx/b.png, 0 ,1.0\n", "x.csv")
    assert table.classes == ("pneumonia", "covid")
    assert as_dict(table) == {"x/a.png": [1, NULL_LABEL], "x/b.png": [0, 1]}


def test_wide_rsna_classes_come_in_the_order_of_their_weights():
    header = "Image," + ",".join(reversed(RSNA_CLASSES))
    table = parse_labels(f"{header}\na,1,0,0,0,0,1\n".encode(), "x.csv")
    assert table.classes == RSNA_CLASSES
    assert as_dict(table) == {"a": [1, 0, 0, 0, 0, 1]}


def test_gzip_bom_and_windows_line_ends_change_nothing():
    plain = parse_labels(LONG.encode(), "x.csv")
    odd = parse_labels(gzip.compress(("\ufeff" + LONG.replace("\n", "\r\n")).encode()), "x.csv.gz")
    assert as_dict(odd) == as_dict(plain)
    assert odd.classes == plain.classes


def test_parquet_is_keyed_by_image_id_in_any_column():
    sink = io.BytesIO()
    columns = {"any": pa.array([1, None, 0], pa.int8()), "image_id": ["a", "b", "c"], "sdh": [True, False, False]}
    pq.write_table(pa.table(columns), sink)
    table = parse_labels(sink.getvalue(), "x.parquet")
    assert table.classes == ("any", "sdh")
    assert as_dict(table) == {"a": [1, 1], "b": [NULL_LABEL, 0], "c": [0, 0]}


def test_parquet_without_a_key_column_is_refused():
    sink = io.BytesIO()
    pq.write_table(pa.table({"name": ["a"], "any": [1]}), sink)
    with pytest.raises(LabelError, match="one must be of image_id, source_path, path"):
        parse_labels(sink.getvalue(), "x.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; give a table with a header, a key and at least one class"),
        (b" \n\n", "is empty; give a table with a header, a key and at least one class"),
        (b"Image\na\n", "needed are a key and at least one class"),
        (b"Image,any\n", "has a header but no rows"),
        (b"Image,any,any\na,1,1\n", "has the column 'any' twice: Image,any,any; rename one of the two"),
        (b"image_id,image_id,any\na,b,1\n", "has the column 'image_id' twice: .*,any; rename one of the two"),
        (b"path;image_id; image_id\na;b;1\n", "has the column 'image_id' twice: .*; rename one of the two"),
        (b"image_id,any,\na,1,\n", "has a column without a name: image_id,any,; name or remove it"),
        (b"Image,any\na,1,1\n", "is no readable table"),
        (b"Image,any\n,1\n", "line 2: the key in 'Image' is blank"),
        (b"Image,any\n\xff\xfe,1\n", "is no readable table: line 2 is not UTF-8; save it as UTF-8"),
        ("Bild,H\u00e4matom\na,1\n".encode("latin-1"), "is no readable table: line 1 is not UTF-8; save it as UTF-8"),
        ("Image,any\na,1\n".encode("utf-16"), "is no readable table: line 1 is not UTF-8; save it as UTF-8"),
        (
            gzip.compress(b"Image,any\na,1\n", mtime=0),
            r"is no readable table: it is compressed by gzip; name it \.csv\.gz",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused(content, message):
    with pytest.raises(LabelError, match=rf"labels: x\.csv.*{message}"):
        parse_labels(content, "x.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Bild,H\u00e4matom\na,1\n".encode("latin-1"), "line 1 is not UTF-8; save it as UTF-8"),
        (gzip.compress(b"image,site\na,1\n", mtime=0), r"name it \.csv\.gz"),
        (b"image_id,image_id,site\na,b,1\n", "has the column 'image_id' twice: .*; rename one of the two"),
    ],
)
def test_columns_of_texts_are_refused_for_the_same_reasons(content, message):
    with pytest.raises(LabelError, match=rf"labels: x\.csv .*{message}"):
        parse_columns(content, "x.csv", key="", columns=["site"])


def test_class_folders_become_one_hot_labels():
    table = labels_of_classes(pa.array(["a", "b", "c"]), pa.array(["PNEUMONIA", "NORMAL", None], pa.string()))
    assert table.classes == ("NORMAL", "PNEUMONIA")
    assert as_dict(table) == {"a": [0, 1], "b": [1, 0]}


def test_classes_that_are_numbers_stand_in_their_order():
    source_class = pa.array(["10", "9", "0", "other", "9"])
    table = labels_of_classes(pa.array(["a", "b", "c", "d", "e"]), source_class)
    assert table.classes == ("0", "9", "10", "other")
    assert as_dict(table)["a"] == [0, 0, 1, 0]


def test_no_class_folders_is_an_error():
    with pytest.raises(SourceError, match="source_class needs a corpus with classes"):
        labels_of_classes(pa.array(["a"]), pa.nulls(1, pa.string()))


def test_the_real_table_has_the_counts_of_its_readme(shared_data):
    location = shared_data / "labels" / "rsna_stage2_train_wide.csv.gz"
    table = parse_labels(location.read_bytes(), str(location))
    assert table.values.shape == (752803, 6)
    np.testing.assert_array_equal(table.values.sum(axis=0), [107933, 3145, 36118, 26205, 35675, 47166])


def test_the_real_long_table_has_four_positives(shared_data):
    location = shared_data / "rsna" / "stage_2_train.csv"
    table = parse_labels(location.read_bytes(), str(location))
    assert len(table.keys) == 27
    assert int(table.values[:, 0].sum()) == 4


def parquet(columns: dict[str, list[object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_a_second_key_column_is_no_class():
    both = {"source_path": ["x/a.dcm"], "any": [1], "image_id": ["a"], "path": ["b"]}
    table = parse_labels(parquet(both), "x.parquet")
    assert (table.classes, as_dict(table)) == (("any",), {"a": [1]})
    with pytest.raises(LabelError, match="needed are a key and at least one class"):
        parse_labels(parquet({"path": ["a"], "image_id": ["b"]}), "x.parquet")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (gzip.compress(LONG.encode(), mtime=0)[:10] + b"\xff" * 40, "x.csv.gz"),
        (gzip.compress(LONG.encode(), mtime=0)[:-20], "x.csv.gz"),
        (parquet({"image_id": ["a"], "any": [[1, 0]]}), "x.parquet"),
        (parquet({"image_id": ["a"], "any": [b"\xff"]}), "x.parquet"),
    ],
    ids=["corrupt", "cut", "lists", "binary"],
)
def test_a_file_that_holds_no_table_of_labels_is_named(data, name):
    with pytest.raises(LabelError, match=f"^labels: {name} is no readable table: "):
        parse_labels(data, name)


@pytest.mark.parametrize(("no", "yes"), [("no", "YES"), ("False", "true"), ("negative", " Positive"), ("0", "1")])
def test_labels_are_words_of_any_case(no, yes):
    table = parse_labels(f"image,sick\na,{yes}\nb,{no}\nc,\n".encode(), "x.csv")
    assert as_dict(table) == {"a": [1], "b": [0], "c": [NULL_LABEL]}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_headers_and_cells_are_stripped_whatever_separates_them(separator):
    text = "id, hemorrhage ,edema\n a.png ,1,no\nb.png, 0,yes\n".replace(",", separator)
    table = parse_labels(text.encode(), "x.csv")
    assert table.classes == ("hemorrhage", "edema")
    assert as_dict(table) == {"a.png": [1, 0], "b.png": [0, 1]}


PATIENTS = b"nr,image,age,hemorrhage,edema\n1,a,61,yes,no\n2,b,48,no,yes\n"


def test_named_columns_are_read_and_the_others_listed():
    table = parse_labels(PATIENTS, "x.csv", key="image", columns=["hemorrhage"])
    assert (table.classes, as_dict(table)) == (("hemorrhage",), {"a": [1], "b": [0]})
    assert table.unused_columns == ("nr", "age", "edema")
    both = parse_labels(PATIENTS, "x.csv", key="image", columns=["edema", "hemorrhage"])
    assert as_dict(both) == {"a": [0, 1], "b": [1, 0]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": "imge"}, r"has no column 'imge' \(did you mean image\?\); it has nr, image, age, hemorrhage, edema"),
        ({"key": "image", "columns": ["bleed"]}, "has no column 'bleed'; it has nr, image"),
        ({"key": "image", "columns": ["image"]}, "needed are a key and at least one class"),
        ({"key": "image"}, "line 3: nr is '2' for 'b'; .*--label_columns names the columns that are labels"),
        ({"key": "image", "columns": ["age", "edema"]}, "line 2: age is '61' for 'a'; a label is 0, 1, yes"),
    ],
)
def test_columns_that_are_not_there_or_hold_no_labels_are_named(columns, message):
    with pytest.raises(LabelError, match=rf"^labels: x\.csv.*({message})"):
        parse_labels(PATIENTS, "x.csv", **columns)


def test_one_column_of_class_names_gives_exclusive_classes():
    text = b"image,finding\na,typical\nb,negative\nc, typical \nd,\ne,atypical\n"
    table = parse_labels(text, "x.csv", columns=["finding"])
    assert table.classes == ("atypical", "negative", "typical")
    assert as_dict(table) == {"a": [0, 0, 1], "b": [0, 1, 0], "c": [0, 0, 1], "e": [1, 0, 0]}
    digits = parse_labels(b"image,digit\na,10\nb,0\nc,1\nd,9\n", "x.csv", columns=["digit"])
    assert digits.classes == ("0", "1", "9", "10")
    with pytest.raises(LabelError, match=r"line 2: finding is 'typical' for 'a'; .* or one column of class names"):
        parse_labels(text, "x.csv")


def test_a_misspelt_word_is_no_class():
    with pytest.raises(LabelError, match="line 4: sick is 'ye' for 'c'"):
        parse_labels(b"image,sick\na,yes\nb,no\nc,ye\n", "x.csv", columns=["sick"])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("1", "0", "?"), r"line 4: sick is '\?' for 'c'"),
        (("1", "0", "n/a"), "line 4: sick is 'n/a' for 'c'"),
        (("1", "0", "1.5"), "line 4: sick is '1.5' for 'c'"),
        (("1.0", "0.0", "-1.0"), "line 4: sick is '-1.0' for 'c'"),
        (("0,0", "1,0", "0,0"), "line 2: sick is '0,0' for 'a'"),
        (("Y", "n", "?"), "line 2: sick is 'Y' for 'a'"),
    ],
)
def test_labels_with_a_cell_that_is_none_are_no_class_names(cells, message):
    rows = "".join(f"{name};{cell}\n" for name, cell in zip("abc", cells, strict=True))
    with pytest.raises(LabelError, match=rf"labels: x\.csv {message}; a label is 0, 1, yes"):
        parse_labels(f"image;sick\n{rows}".encode(), "x.csv", columns=["sick"])


@pytest.mark.parametrize("cells", [("0", "1", "2"), ("0.0", "1.0", "2.0"), ("0,0", "1,0", "2,0"), ("n", "y")])
def test_numbers_from_0_and_letters_are_class_names(cells):
    rows = "".join(f"{name};{cell}\n" for name, cell in zip("abc", cells, strict=False))
    assert parse_labels(f"image;grade\n{rows}".encode(), "x.csv", columns=["grade"]).classes == cells


def test_two_classes_for_one_image_are_refused():
    with pytest.raises(LabelError, match="conflicting rows for a; keep one"):
        parse_labels(b"image,finding\na,cat\na,dog\n", "x.csv", columns=["finding"])


def test_a_column_of_numbers_is_no_column_of_classes():
    rows = "".join(f"{number},{number * 7}\n" for number in range(1001))
    with pytest.raises(LabelError, match="1,001 different values such as '0' in the column of class names"):
        parse_labels(f"image,dose\n{rows}".encode(), "x.csv", columns=["dose"])


def test_a_table_of_files_is_a_table_of_labels():
    """Of `--corpus manifest`: its path is the key, and what it says of patients is no class."""
    text = b"patient,path,hemorrhage,source_split,image_id\nP1,x/a.png,yes,train,\nP2,x/b.png,no,train,b\n"
    table = parse_labels(text, "x.csv")
    assert (table.classes, as_dict(table)) == (("hemorrhage",), {"x/a.png": [1], "x/b.png": [0]})
    assert table.unused_columns == ("patient", "source_split", "image_id")


def test_a_header_of_id_and_label_is_rsnas_unless_columns_are_named():
    text = b"ID,Label\na.png,1\nb.png,0\n"
    with pytest.raises(LabelError, match=r"ends with no class .*; for a row an image give --label_columns '\[Label\]'"):
        parse_labels(text, "x.csv")
    table = parse_labels(text, "x.csv", columns=["Label"])
    assert (table.classes, as_dict(table)) == (("Label",), {"a.png": [1], "b.png": [0]})


def test_line_breaks_in_cells_of_a_large_table_begin_no_row():
    """The CSV reader cuts blocks of 1 MiB; each line of a text looks like a row."""
    text = "\n".join(["line,0," + "x" * 60] * 3)
    rows = [f'a{at:05},{at % 2},"{text}"\n' for at in range(10_000)]
    data = ("image_id,sick,text\n" + "".join(rows)).encode()
    assert len(data) > 2_000_000
    table = parse_labels(data, "x.csv", columns=["sick"])
    assert as_dict(table) == {f"a{at:05}": [at % 2] for at in range(10_000)}


def test_a_table_that_cannot_be_read_is_named_with_its_flag(tmp_path):
    missing = str(tmp_path / "nowhere.csv")
    with pytest.raises(SourceError, match=r"^subgroup_table: .*nowhere.csv: No such .*; give a CSV or Parquet file$"):
        read_table_file(missing, "subgroup_table")
    with pytest.raises(SourceError, match=r"^labels: .*; give a CSV or Parquet file, or source_class$"):
        read_table_file(missing, "labels")
