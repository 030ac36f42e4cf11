"""Packed homomorphic encryption: exact, hidden, and closed to what is no ciphertext."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.crypto import he, seal_bytes
from isthmus.errors import BadMessage

pytest.importorskip("tenseal")


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_arithmetic_is_that_of_whole_numbers(key, public, seed):
    rng = np.random.default_rng(seed)
    a, c = rng.integers(-(2**24), 2**24, (2, he.SLOTS))
    b = rng.integers(-(2**23), 2**23, he.SLOTS)
    cipher = public.read(key.encrypt(a).tensor())
    found = key.decrypt(key.read((cipher.times(b) + public.encrypt(c)).plus(c).tensor()))
    np.testing.assert_array_equal(found, a * b + 2 * c)


def test_sums_wrap_modulo_the_prime(key, public):
    mask = he.masks(he.SLOTS)
    found = key.decrypt(key.encrypt(np.array([5, -7])).plus(mask))
    np.testing.assert_array_equal(he.centred(found - mask)[:3], [5, -7, 0])
    edge = key.encrypt(np.array([he.HALF])).plus(np.eye(1, he.SLOTS, dtype=np.int64)[0])
    assert key.decrypt(edge)[0] == -he.HALF


def test_masks_are_uniform_and_never_the_same():
    one, other = he.masks(40_000), he.masks(40_000)
    assert np.abs(one).max() <= he.HALF
    assert not (one == other).any()
    # Each fortieth of the range has a fortieth of them, to five deviations.
    counts = np.histogram(one, 40, (-he.HALF, he.HALF))[0]
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_the_same_numbers_look_different_each_time(key):
    one, other = (key.encrypt(np.arange(4)).tensor() for _ in range(2))
    assert one.size != other.size or (one != other).mean() > 0.9


def test_a_public_key_cannot_decrypt(key, public):
    with pytest.raises(ValueError, match="secret_key"):
        public.encrypt(np.arange(3)).vector.decrypt()


def test_several_ciphertexts_in_one_message(key, public):
    tensors = he.pack([key.encrypt(np.array([i])) for i in range(3)])
    found = he.unpack(public, tensors, 3)
    assert [int(key.decrypt(one)[0]) for one in found] == [0, 1, 2]
    for count in (2, 4):
        with pytest.raises(BadMessage, match=f"{count} ciphertexts were expected"):
            he.unpack(public, tensors, count)
    with pytest.raises(BadMessage, match="bytes and sizes"):
        he.unpack(public, {"bytes": tensors["bytes"]}, 3)
    with pytest.raises(BadMessage, match="were expected"):
        he.unpack(public, {**tensors, "sizes": tensors["sizes"] - 1}, 3)


@pytest.mark.parametrize("spoil", ["empty", "noise", "short", "huge"])
def test_what_is_no_ciphertext_or_key_is_refused(key, public, spoil):
    def spoilt(data):
        return {
            "empty": data[:0],
            "noise": np.random.default_rng(0).integers(0, 256, 400, np.uint8),
            "short": data[: data.size // 2],
            "huge": np.zeros(1 << 21, np.uint8),
        }[spoil]

    with pytest.raises(BadMessage):
        public.read(spoilt(key.encrypt(np.arange(3)).tensor()))
    with pytest.raises(BadMessage):
        he.HePublic(spoilt(key.public()))


def test_a_key_of_other_parameters_is_refused():
    import tenseal

    weak = tenseal.context(tenseal.SCHEME_TYPE.BFV, poly_modulus_degree=4096, plain_modulus=1032193)
    secret = weak.serialize(save_secret_key=True)
    weak.make_context_public()
    for data in (weak.serialize(), secret):
        with pytest.raises(BadMessage, match="no public key"):
            he.HePublic(np.frombuffer(data, np.uint8))


def test_a_partners_parameters_are_not_read(key):
    """A key with parameters that SEAL would take minutes over: ours are used in their place."""
    own = key.public().tobytes()
    parameters, _, rest = seal_bytes.first_field(own)
    other = seal_bytes.field(1, b"\xff" * 500) + rest
    assert parameters == 1
    public = he.HePublic(np.frombuffer(other, np.uint8))
    cipher = key.read(public.encrypt(np.arange(7)).tensor())
    np.testing.assert_array_equal(key.decrypt(cipher)[:7], np.arange(7))


def ciphertext(coefficients):
    """A ciphertext of another ring's or chain's parameters, as TenSEAL writes it."""
    import tenseal

    context = tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        poly_modulus_degree=he.SLOTS,
        plain_modulus=he.MODULUS,
        coeff_mod_bit_sizes=coefficients,
    )
    data = tenseal.bfv_vector(context, [1] * he.SLOTS).serialize()
    return np.frombuffer(data, np.uint8)


def spliced(cipher, change):
    """The ciphertext with its SEAL object changed."""
    sizes, rest = seal_bytes.first_field(cipher.tensor().tobytes())[1:]
    content = change(seal_bytes.first_field(rest)[1])
    data = seal_bytes.field(1, sizes) + seal_bytes.field(2, content)
    return np.frombuffer(data, np.uint8)


def changed(cipher, change, folder):
    """The ciphertext after something that SEAL can do and TenSEAL does not show."""
    from tenseal import sealapi

    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(he.SLOTS)
    parameters.set_coeff_modulus(
        sealapi.CoeffModulus.BFVDefault(he.SLOTS, sealapi.SEC_LEVEL_TYPE.TC128)
    )
    parameters.set_plain_modulus(he.MODULUS)
    context = sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)
    before, path = sealapi.Ciphertext(context), str(folder / "ciphertext")
    cipher.vector.ciphertext()[0].save(path)
    before.load(context, path)
    change(sealapi.Evaluator(context), before)
    before.save(path)
    return spliced(cipher, lambda _: (folder / "ciphertext").read_bytes())


@pytest.mark.parametrize("change", ["mod_switch_to_next_inplace", "transform_to_ntt_inplace"])
def test_ciphertexts_of_another_level_or_form_are_refused(key, public, tmp_path, change):
    cipher = key.encrypt(np.arange(5))
    unchanged = changed(cipher, lambda evaluator, one: None, tmp_path)
    assert key.decrypt(public.read(unchanged))[4] == 4
    other = changed(cipher, lambda evaluator, one: getattr(evaluator, change)(one), tmp_path)
    for reader in (key, public):
        with pytest.raises(BadMessage, match="than a fresh one"):
            reader.read(other)


def test_ciphertexts_of_more_polynomials_or_other_primes_are_refused(public):
    with pytest.raises(BadMessage):
        public.read(ciphertext([43, 43, 44, 44]))
    own = he.HeKey()
    own._context.auto_relin = False
    cipher = own.encrypt(np.arange(5))
    with pytest.raises(BadMessage, match="size"):
        own.read(he.Cipher(cipher.vector * cipher.vector).tensor())


def framed(content, compression=2):
    """SEAL's header before something else."""
    size = (16 + len(content)).to_bytes(8, "little")
    return b"\x5e\xa1\x10\x04\x03" + bytes([compression, 0, 0]) + size + content


FRAME = b"\x28\xb5\x2f\xfd"
BOMB = FRAME + b"\x00\x38" + (1 << 20 | 2).to_bytes(3, "little") + b"\0"
"""A block of 128 KB of zeros in ten bytes, and it is not the last."""
LAST = (1 << 20 | 3).to_bytes(3, "little") + b"\0"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing of the kind, but long enough",
        framed(b"12345678", compression=1),
        framed(b"12345678", compression=2),
        framed(FRAME),
        framed(FRAME + b"\x00\x38"),
        framed(FRAME + b"\x01\x38\x00" + LAST),
        framed(FRAME + b"\x00\xff" + LAST),
        framed(FRAME + b"\x00\x38" + b"\x07\x00\x00"),
        framed(FRAME + b"\x00\x38" + LAST + b"more"),
        framed(BOMB + BOMB[6:] * 40 + LAST),
        framed(FRAME + b"\xa0\xff\xff\xff\x7f" + LAST),
    ],
)
def test_what_would_unpack_to_too_much_or_is_no_frame_is_refused(key, public, content):
    with pytest.raises(BadMessage):
        seal_bytes.check_object(content, 1 << 22)
    with pytest.raises(BadMessage):
        public.read(spliced(key.encrypt(np.arange(3)), lambda _: content))


def test_frames_of_few_blocks_are_let_through_to_seal(key, public):
    seal_bytes.check_object(framed(BOMB + LAST), 1 << 22)
    with pytest.raises(BadMessage, match="no ciphertext"):
        public.read(spliced(key.encrypt(np.arange(3)), lambda _: framed(BOMB + LAST)))
    same = spliced(key.encrypt(np.arange(3)), lambda content: content)
    assert key.decrypt(public.read(same))[2] == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_spoilt_bytes_are_a_bad_message_or_some_ciphertext(key, public, seed):
    rng = np.random.default_rng(seed)
    data = key.encrypt(np.arange(3)).tensor().copy()
    data[rng.integers(0, rng.choice([40, data.size]), 3)] ^= rng.integers(1, 256, 3, np.uint8)
    try:
        found = key.decrypt(public.read(data))
    except BadMessage:
        return
    assert found.shape == (he.SLOTS,)
    assert np.abs(found).max() <= he.HALF


def test_numbers_that_do_not_fit_are_no_silent_error(key):
    for wrong in (np.array([he.HALF + 1]), np.zeros(he.SLOTS + 1, np.int64)):
        with pytest.raises(ValueError, match="slots"):
            key.encrypt(wrong)


def test_a_ciphertext_that_hides_nothing_is_refused(key, public):
    """Of zeros alone, as a partner can make it, and SEAL's products stop at it."""
    part = key.encrypt(np.arange(3)).vector.ciphertext()[0]
    name = np.array(list(part.parms_id()), "<u8").tobytes()
    words = 2 * he.SLOTS * part.coeff_modulus_size()
    about = struct.pack("<?QQQdQ", False, 2, he.SLOTS, part.coeff_modulus_size(), 1.0, 1)

    # A Zstandard frame: a raw block with the number of words, and blocks of 128 KB of zeros.
    first = (8 << 3).to_bytes(3, "little") + struct.pack("<Q", words)
    zeros = [((1 << 17) << 3 | 2 | last).to_bytes(3, "little") + b"\0" for last in (0, 0, 0, 0, 1)]
    frame = b"\x28\xb5\x2f\xfd\x00\x38" + first + b"".join(zeros)

    def nothing(seal):
        def as_object(content, packed):
            size = struct.pack("<Q", 16 + len(content))
            return seal[:5] + bytes([packed, 0, 0]) + size + content

        return as_object(name + about + as_object(frame, 2), 0)

    for reader in (key, public):
        with pytest.raises(BadMessage, match="another size, modulus level or form"):
            reader.read(spliced(key.encrypt(np.arange(3)), nothing))
