"""What any implementation of a seam must do, as test classes to inherit (they need pytest).

::

    from isthmus.testing import LinkContract

    class TestMyLink(LinkContract):
        def make_links(self, *, timeout, window):
            ...
"""

from isthmus.testing.links import LinkContract

__all__ = ["LinkContract"]
