"""Files of an identity folder that are their owner's alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from isthmus.errors import IdentityError, StorageError
from isthmus.files import replacing, storage_error

SECRET_BYTES = 32
"""Length of a party's seed."""


def make_private_folder(folder: Path) -> None:
    """Make `folder`, and those above it, for its owner alone where they are not there yet.

    Raises:
        IdentityError: it is there already, and others can write it.
        StorageError: it cannot be made.
    """
    try:
        for place in (*reversed(folder.parents), folder):
            if not place.exists():
                place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror}") from error
    check_not_writable(folder)


def write_private(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write `content` to `path`, whole or not at all, from the first byte on with `mode`.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)


def check_not_writable(path: Path) -> None:
    """Check that nobody but its owner can change `path`.

    Raises:
        IdentityError: others can.
    """
    if os.name == "posix" and path.stat().st_mode & 0o022:
        raise IdentityError(f"{path} can be changed by others", mend=f"Run `chmod go-w {path}`.")


def check_private(path: Path, what: str) -> None:
    """Check that nobody but its owner can read or write `path`.

    Raises:
        IdentityError: others can.
    """
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise IdentityError(f"{what} {path} can be read by others", mend=f"Run `chmod 600 {path}`.")


def read_file(path: Path, what: str) -> bytes:
    """The content of `path`.

    Raises:
        IdentityError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"cannot read the {what} {path}: {error.strerror}") from error


def write_seed(path: Path, secret: bytes | None = None) -> bytes:
    """Keep `secret` (by default 32 fresh random bytes) in `path`; the bytes kept.

    Raises:
        ValueError: `secret` has another length.
        StorageError: it cannot be written.
    """
    secret = secrets.token_bytes(SECRET_BYTES) if secret is None else secret
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a party's seed has {SECRET_BYTES} bytes, not {len(secret)}")
    write_private(path, secret.hex().encode() + b"\n")
    return secret


def read_or_make_seed(path: Path) -> bytes:
    """The seed in `path`; a fresh one is made where there is none, once, whoever else asks.

    Raises:
        IdentityError: it is broken, or open to others.
        StorageError: there is none and none can be written.
    """
    if not path.exists():
        _make_seed_once(path)
    check_private(path, "the seed")
    text = read_file(path, "seed")
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise IdentityError(
            f"{path} holds no seed",
            mend="Restore it, or remove it: a new one is made, and runs will differ.",
        )
    return secret


def _make_seed_once(path: Path) -> None:
    """Two programs of one party may start together: the first one's seed stays."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        write_seed(fresh)
        os.link(fresh, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        fresh.unlink(missing_ok=True)
