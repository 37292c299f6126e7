"""Topics of newswires with dense layers: rows that are no pictures, through shards and the ordinary jobs.

    python examples/reuters.py /data/reuters21578.tar.gz runs/reuters

The first argument is the distribution of Reuters-21578 as SGML. A document's class is the first of its topics; topics
of fewer than 15 documents are left out. That leaves 11,228 documents of 46 topics, as in Keras' `reuters.npz`.
"""

import html
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import hemo

LEAST_DOCUMENTS = 15
WORDS = 10_000

DOCUMENT = re.compile(r'<REUTERS [^>]*NEWID="(\d+)">(.*?)</REUTERS>', re.DOTALL)
TOPIC = re.compile(r"<TOPICS><D>(.*?)</D>")
TEXT = re.compile(r"<TEXT[^>]*>(.*)</TEXT>", re.DOTALL)
MARKUP = re.compile(r"<[^>]*>|&#\d+;")
WORD = re.compile(r"[a-z0-9']+")


class Document(NamedTuple):
    """A newswire with a topic."""

    number: str
    topic: str
    words: frozenset[str]


def main(source: Path, out: Path) -> None:
    """Write shards, make a training set, train, and print the metrics of each split."""
    if not (out / "shards" / "card.json").exists():
        write_shards(source, str(out / "shards"))
    training_set = hemo.curate(
        shards=str(out / "shards"),
        labels="source_class",
        split="by_patient",
        val_fraction=0.1,
        test_fraction=0.2,
        out=str(out / "set"),
    )
    trial = hemo.train(
        training_set=training_set.path,
        out=str(out / "records"),
        trial={
            "name": "dense layers",
            "task": "multi_class",
            "model": {"backbone": "none", "pooling": "flatten", "hidden_layers": 1, "dense_width": 256, "dropout": 0.5},
            "training": {"epochs": 20, "batch_size": 128, "optimizer": "adam", "learning_rate": 1e-3, "patience": 3},
        },
    )
    print(trial.metrics[["accuracy", "loss"]])


def write_shards(source: Path, out: str) -> None:
    """Write each document as a row of `WORDS` columns, 255 where it has the word, of the most frequent words.

    What is held out together is a patient in hemo: here a document, with those of the same words.
    """
    documents = read_documents(source)
    frequency = Counter(word for document in documents for word in document.words)
    columns = {word: column for column, (word, _) in enumerate(frequency.most_common(WORDS))}
    with hemo.ShardWriter(out, channels=("words",), side_px=(1, WORDS), unit_rows=4096) as writer:
        for document in documents:
            row = multi_hot(document, columns)
            writer.write(row, image_id=document.number, patient=document.number, source_class=document.topic)


def read_documents(source: Path) -> list[Document]:
    """Return the documents of topics with at least `LEAST_DOCUMENTS`."""
    with tarfile.open(source) as archive:
        pages = [archive.extractfile(name) for name in sorted(archive.getnames()) if name.endswith(".sgm")]
        documents = [found for page in pages if page for found in documents_of(page.read().decode("latin-1"))]
    counts = Counter(document.topic for document in documents)
    return [document for document in documents if counts[document.topic] >= LEAST_DOCUMENTS]


def documents_of(page: str) -> Iterator[Document]:
    """Yield the documents of one SGML file that have a topic; words are lower-case, of title and body."""
    for number, content in DOCUMENT.findall(page):
        topic, text = TOPIC.search(content), TEXT.search(content)
        if topic and text:
            plain = html.unescape(MARKUP.sub(" ", text.group(1))).lower()
            yield Document(number, topic.group(1), frozenset(WORD.findall(plain)))


def multi_hot(document: Document, columns: dict[str, int]) -> NDArray[np.uint8]:
    """Return a document as an image of one row, uint8, (1, 1, words)."""
    image = np.zeros((1, 1, WORDS), np.uint8)
    image[0, 0, [columns[word] for word in document.words if word in columns]] = 255
    return image


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]).absolute())
