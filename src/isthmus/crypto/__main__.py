"""A child process of `PointWorkers`: requests on standard input, answers on standard output.

It ends when its standard input closes.
"""

import sys

from isthmus.crypto.requests import serve

try:
    serve(sys.stdin.buffer, sys.stdout.buffer)
except BrokenPipeError:  # the parent is gone
    sys.exit(1)
