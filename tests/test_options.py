import pytest

from strokelib.errors import ParameterError
from strokelib.options import chosen


def test_one_of_the_words_passes_and_another_is_refused_with_all_of_them():
    assert chosen("form", "printed", ("printed", "mended")) is None
    with pytest.raises(ParameterError, match=r"form: found .other.; wanted printed or mended\. Next step: choose one"):
        chosen("form", "other", ("printed", "mended"))
