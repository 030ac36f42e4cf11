"""A key pair for homomorphic encryption, made once, as that takes a while."""

import pytest

from isthmus.crypto import he


@pytest.fixture(scope="session")
def key():
    return he.HeKey()


@pytest.fixture(scope="session")
def public(key):
    return he.HePublic(key.public())
