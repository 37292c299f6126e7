"""Which labels belong to which images."""

from hemo.corpus.idx import with_labels
from hemo.corpus.source_file import SourceFile
from hemo.corpus.sources import list_corpus
from tests.idx_files import write_digits


def labels_beside(images: str, *others: str) -> str | None:
    files = [SourceFile(name, 10, name) for name in (images, *others)]
    (paired,) = with_labels(files[:1], files)
    return None if paired.labels is None else paired.labels.path


def test_labels_are_found_by_the_published_names():
    assert labels_beside("train-images-idx3-ubyte", "train-labels-idx1-ubyte") == "train-labels-idx1-ubyte"
    assert labels_beside("a/t10k-images.idx3-ubyte", "a/t10k-labels.idx1-ubyte") == "a/t10k-labels.idx1-ubyte"
    assert labels_beside("x-images-idx3-ubyte.gz", "x-labels-idx1-ubyte.gz") == "x-labels-idx1-ubyte.gz"
    assert labels_beside("x-images-idx3-ubyte.gz", "x-labels-idx1-ubyte") == "x-labels-idx1-ubyte"
    assert labels_beside("x-images-idx3-ubyte", "x-labels-idx1-ubyte.gz") == "x-labels-idx1-ubyte.gz"


def test_labels_of_others_are_not_taken():
    assert labels_beside("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "a/train-labels-idx1-ubyte") is None


def test_a_corpus_is_its_images_files_each_with_its_labels_and_nothing_else_is_part_of_it(tmp_path):
    write_digits(tmp_path, train=10, test=5)
    (tmp_path / "README").write_text("MNIST")
    listing = list_corpus(str(tmp_path), "idx")
    assert [(file.path, file.labels.path if file.labels else "") for file in listing.files] == [
        ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ]
    assert listing.ignored == 1
