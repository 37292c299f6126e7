"""Images left out by their flags."""

import pytest

from hemo.curation.clean import unflagged
from hemo.errors import ConfigError
from tests.made_shards import index_of


def test_rows_with_any_of_the_flags_go():
    index = index_of([{"flags": ["blank", "padded"]}, {"flags": ["padded"]}, {"flags": []}, {"flags": ["noise"]}])
    assert unflagged(index, ("blank", "noise")).tolist() == [False, True, True, False]
    assert unflagged(index, ()).all()


def test_an_unknown_flag_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"drop_flags: blnk is no flag of an image; known are blank, little_brain"):
        unflagged(index_of([{}]), ("blank", "blnk"))
