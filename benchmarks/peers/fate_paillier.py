"""FATE's Paillier at one gradient step, in an interpreter that has `fate_utils`, as JSON.

The very calls of FATE's `PaillierTensorCipher`: encode, encrypt, product with a plain matrix,
decrypt; keys of 2048 bits.
"""

import json
import sys
import time

import numpy as np
from fate_utils.paillier import keygen


def main() -> None:
    data = np.load(sys.argv[1])
    r, x = data["r"], data["x"]
    secret, public, coder = keygen(2048)
    begin, wall = time.process_time(), time.perf_counter()
    encrypted = public.encrypt_encoded(coder.encode_f64_vec(r), True)
    after = time.process_time()
    plain = coder.encode_f64_vec(np.ascontiguousarray(x.ravel()))
    products = encrypted.matmul(public, plain, [1, len(r)], list(x.shape))
    multiplied = time.process_time()
    found = coder.decode_f64_vec(secret.decrypt_to_encoded(products))
    end = time.process_time()
    parts = {"encrypt": after - begin, "product": multiplied - after, "decrypt": end - multiplied}
    error = float(np.abs(found - r @ x).max())
    took = {"cpu_seconds": end - begin, "seconds": time.perf_counter() - wall}
    print(json.dumps({**took, "parts": parts, "error": error}))


if __name__ == "__main__":
    main()
