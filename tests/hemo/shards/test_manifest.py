import pyarrow.parquet as pq
import pytest

from hemo.corpus.source_file import ManifestRow, Member, Refusal, SourceFile
from hemo.digest import digest_of
from hemo.errors import OutputError
from hemo.pseudonym import Pseudonymiser
from hemo.shards.manifest import UNIT_BYTES, Manifest, read_manifest, update_manifest, write_manifest

EMPTY = Manifest((), ())


def files(names: str, mark: str = "1") -> list[SourceFile]:
    return [SourceFile(name, 10, mark) for name in names]


def paths(manifest: Manifest) -> dict[int, str]:
    return {unit.number: "".join(unit.paths) for unit in manifest.by_unit()}


def test_a_first_listing_is_cut_into_units_of_consecutive_files():
    update = update_manifest(EMPTY, files("abcde"), unit_files=2)
    assert paths(update.manifest) == {0: "ab", 1: "cd", 2: "e"}
    assert not update.stale


def sized(*sizes: int) -> list[SourceFile]:
    return [SourceFile("abcdefgh"[at], size, "1") for at, size in enumerate(sizes)]


def test_a_unit_holds_at_most_two_gigabytes_or_one_file():
    """a and b fill one; c would be too much for d; e is larger than a unit; f and g, both small, follow."""
    assert UNIT_BYTES == 2_000_000_000
    half = UNIT_BYTES // 2
    listing = sized(half, half, half + 1, half, 3 * UNIT_BYTES, 1, 1)
    assert paths(update_manifest(EMPTY, listing, unit_files=5).manifest) == {0: "ab", 1: "c", 2: "d", 3: "e", 4: "fg"}
    assert paths(update_manifest(EMPTY, listing, unit_files=1).manifest) == dict(enumerate("abcdefg"))
    keyed = update_manifest(EMPTY, listing, unit_files=5, pseudonyms=Pseudonymiser(b"a secret of sixteen bytes"))
    assert [len(unit.paths) for unit in keyed.units] == [2, 1, 1, 1, 2]


def test_units_of_rsna_are_cut_by_files():
    """Of 525 kB each: 0.54 GB in a unit of 1,024."""
    listing = [SourceFile(f"ID_{number:04d}", 525_290, "1") for number in range(2050)]
    update = update_manifest(EMPTY, listing, unit_files=1024)
    assert [len(unit.paths) for unit in update.units] == [1024, 1024, 2]


def test_units_of_an_earlier_manifest_stay_however_large():
    listing = sized(UNIT_BYTES, UNIT_BYTES, UNIT_BYTES)
    old = Manifest(tuple(listing[:2]), (0, 0))
    update = update_manifest(old, listing, unit_files=1024)
    assert (paths(update.manifest), update.stale) == ({0: "ab", 1: "c"}, frozenset())


def test_new_files_become_new_units_and_the_rest_stays():
    first = update_manifest(EMPTY, files("bd"), unit_files=2).manifest
    update = update_manifest(first, files("abcd"), unit_files=2)
    assert paths(update.manifest) == {0: "bd", 1: "ac"}
    assert (update.stale, update.kept) == (frozenset(), 2)


def test_a_unit_with_a_changed_or_vanished_file_is_stale():
    first = update_manifest(EMPTY, files("abcdef"), unit_files=2).manifest
    now = [*files("a"), *files("b", mark="2"), *files("c"), *files("ef")]
    update = update_manifest(first, now, unit_files=2)
    assert update.stale == {0, 1}
    assert paths(update.manifest) == {0: "ab", 1: "c", 2: "ef"}


def test_a_manifest_survives_writing_and_reading(tmp_path):
    manifest = update_manifest(EMPTY, files("abc"), unit_files=2).manifest
    write_manifest(str(tmp_path), manifest)
    assert read_manifest(str(tmp_path)) == manifest


def test_a_damaged_manifest_is_no_reason_to_convert_again(tmp_path):
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(OutputError, match="is damaged; if no file of the source has changed since, remove it"):
        read_manifest(str(tmp_path))


def test_a_folder_without_manifest_has_an_empty_one(tmp_path):
    assert read_manifest(str(tmp_path)) == EMPTY


def test_a_changed_row_of_a_table_makes_its_unit_stale():
    given = [file._replace(manifest_row=ManifestRow(patient="p1")) for file in files("ab")]
    first = update_manifest(EMPTY, given, unit_files=1).manifest
    assert not update_manifest(first, given, unit_files=1).stale
    other = [given[0], given[1]._replace(manifest_row=ManifestRow(patient="p2"))]
    assert update_manifest(first, other, unit_files=1).stale == {1}


def test_where_the_bytes_lie_is_no_change():
    """A zip that was packed again, in another order, has the same members."""
    here, there = (
        [file._replace(member=Member(offset, 10, 0, 1, "zip")) for file in files("ab")] for offset in (0, 99)
    )
    first = update_manifest(EMPTY, here, unit_files=2)
    again = update_manifest(first.manifest, there, unit_files=2)
    assert (again.manifest, again.stale) == (first.manifest, frozenset())
    assert [file.member.header_offset for file in again.units[0].files] == [99, 99]


def test_a_member_that_is_no_longer_refused_makes_its_unit_stale():
    """Zipped again without a password it has the same size and checksum."""
    refused = [file._replace(refused=Refusal("encrypted_member", "it is encrypted")) for file in files("ab")]
    first = update_manifest(EMPTY, refused, unit_files=1).manifest
    assert not update_manifest(first, refused, unit_files=1).stale
    assert update_manifest(first, [refused[0], *files("b")], unit_files=1).stale == {1}


KEY = Pseudonymiser(b"a secret of sixteen bytes")


def test_a_manifest_under_a_key_has_neither_name_nor_size_nor_change_mark(tmp_path):
    """A size with a CRC or an ETag says which file of those one holds it is."""
    listed = [SourceFile("JANE.dcm", 526_318, "cbf43926", manifest_row=ManifestRow(patient="JANE"))]
    update = update_manifest(EMPTY, listed, unit_files=2, pseudonyms=KEY)
    assert update.units[0].paths == ("JANE.dcm",)
    write_manifest(str(tmp_path), update.manifest)
    row_mark = digest_of([None, "JANE", None, None, None, None])
    mark = KEY("mark", f"526318 cbf43926 {row_mark}")
    assert pq.read_table(tmp_path / "manifest.parquet").to_pylist() == [
        {"path": KEY("path", "JANE.dcm"), "size_bytes": None, "mark": mark, "unit": 0}
    ]
    assert read_manifest(str(tmp_path)) == update.manifest


@pytest.mark.parametrize(
    "change",
    [
        {"size_bytes": 11},
        {"mark": "2"},
        {"manifest_row": ManifestRow(patient="p1")},
        {"refused": Refusal("encrypted_member", "it is encrypted")},
    ],
    ids=["size", "mark", "row", "refusal"],
)
@pytest.mark.parametrize("pseudonyms", [Pseudonymiser(), KEY], ids=["public", "keyed"])
def test_a_changed_file_is_recognised_with_and_without_a_key(pseudonyms, change, tmp_path):
    first = update_manifest(EMPTY, files("ab"), unit_files=1, pseudonyms=pseudonyms).manifest
    write_manifest(str(tmp_path), first)
    stored = read_manifest(str(tmp_path))
    assert not update_manifest(stored, files("ab"), unit_files=1, pseudonyms=pseudonyms).stale
    now = [*files("a"), files("b")[0]._replace(**change)]
    assert update_manifest(stored, now, unit_files=1, pseudonyms=pseudonyms).stale == {1}


def test_a_manifest_of_another_key_has_no_file_in_common():
    first = update_manifest(EMPTY, files("ab"), unit_files=1, pseudonyms=KEY).manifest
    other = update_manifest(first, files("ab"), unit_files=1, pseudonyms=Pseudonymiser(b"another secret of hemo"))
    assert (other.kept, other.stale) == (0, {0, 1})


def test_files_of_one_name_are_kept_only_if_size_and_mark_are_equal():
    first = update_manifest(EMPTY, files("abc"), unit_files=1).manifest
    now = [*files("a"), *files("b", mark="2"), SourceFile("c", 11, "1")]
    update = update_manifest(first, now, unit_files=1)
    assert (update.kept, update.stale) == (1, {1, 2})
