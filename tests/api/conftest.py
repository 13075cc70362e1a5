"""What the tests of the command line share."""
import pytest

import reidc


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The Market-layout export of a small drawn set."""
    place = tmp_path_factory.mktemp("people")
    reidc.datasets.Synthetic((12, 6), cameras=3, height=96, width=32).export(place)
    return place
