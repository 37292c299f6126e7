"""List and read the files of a corpus and its labels."""
