"""What masking costs: megabytes a second by kind of output, and time to compile.

    python bench/masking.py [--seconds 1]

The bare scan is what Hyperscan does with the same needles and
shapes and no masker around it. A gigabyte of any of these takes the time that
its figure tells: the masker's state doesn't grow with the output.
"""

from __future__ import annotations

import argparse
import random
import resource
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from tailrace.core.mask import Masker
from tailrace.core.mask_rules import MaskRules
from tailrace.core.needles import needles_of
from tailrace.core.shapes import load_shapes

CONFIG = Path(__file__).parents[1] / "configs" / "masking.yaml"
CHUNK = 64 * 1024
MIB = 1 << 20


def word(rng: random.Random, size: int) -> str:
    """Return random letters and digits."""
    return "".join(rng.choices(string.ascii_letters + string.digits, k=size))


def outputs(secret: str, key: str) -> dict[str, bytes]:
    """Return a few MiB of each kind of output."""
    clean = "".join(
        f"[{i}] Compiling src/module_{i % 77}/file_{i}.c -O2 -Wall\n" for i in range(60_000)
    )
    urls = "".join(
        f"GET https://host.example/archive/v{i}.tar.gz 200 in {i} ms\n" for i in range(50_000)
    )
    dense = "".join(
        f"2024-01-01T00:00:00 line {i} with the secret {secret} in it\n" for i in range(40_000)
    )
    return {
        "clean lines": clean.encode(),
        "clean, no line feeds": clean.replace("\n", " ").encode(),
        "a URL a line": urls.encode(),
        "a secret a line": dense.encode(),
        **{f"flood of {name}": unit * (2 * MIB // len(unit)) for name, unit in floods(secret, key)},
    }


def floods(secret: str, key: str) -> Iterator[tuple[str, bytes]]:
    """Yield what hostile output repeats: beginnings that come to nothing, and matches."""
    lines = key.split("\n")
    yield "half a secret", secret[: len(secret) // 2].encode()
    yield "many beginnings", "".join(secret[:n] for n in range(1, len(secret))).encode()
    yield "a key's first line", f"{lines[0]}\n".encode()
    yield "half of a key's first line", f"{lines[0][:32]}\n".encode()
    yield "a repetitive secret", b"z"
    yield "a whole secret", secret.encode()
    yield "a shape's beginning", b"ghp_aB3aB3"
    yield "a shape's head", b"eyJ"
    yield "key BEGINs", b"-----BEGIN PRIVATE KEY-----"
    yield "half of a key's BEGIN", b"-----BEGIN PRIVATE"
    yield "Authorization", b"Authorization: "
    yield "Authorization and blanks", b"Authorization:" + b" " * 1000
    yield "userinfo", b"://a@"
    yield "a value's name", b"_auth="
    yield "a value's name and blanks", b"_auth=" + b" " * 100
    yield "@ behind ://", b"://a" + b"@" * 1000


def masks(rules: MaskRules, output: bytes) -> int:
    """Mask one output in chunks; return how many bytes came out."""
    masker = Masker(rules)
    size = sum(len(masker.feed(output[at : at + CHUNK])) for at in range(0, len(output), CHUNK))
    return size + len(masker.close())


def scans(rules: MaskRules, output: bytes) -> int:
    """Only scan it."""
    streams = [layer.scanner.open(0) for layer in rules.layers]
    for at in range(0, len(output), CHUNK):
        for stream in streams:
            stream.scan(output[at : at + CHUNK])
    return sum(len(stream.close()) for stream in streams)


def rate(
    work: Callable[[MaskRules, bytes], int], rules: MaskRules, output: bytes, s: float
) -> float:
    """Return megabytes a second, the best of as many rounds as fit into *s* seconds."""
    best, end = float("inf"), time.perf_counter() + s
    while time.perf_counter() < end:
        began = time.perf_counter()
        work(rules, output)
        best = min(best, time.perf_counter() - began)
    return len(output) / best / 1e6


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    seconds = arguments.parse_args().seconds
    rng = random.Random(8)
    key = "\n".join(word(rng, 64) for _ in range(30))
    secrets = {f"S{n}": word(rng, rng.randint(16, 60)) for n in range(34)} | {
        "Z": "z" * 12,
        "KEY": key,
    }

    began = time.perf_counter()
    shapes = load_shapes(yaml.safe_load(CONFIG.read_text()), str(CONFIG))
    checked = time.perf_counter()
    MaskRules({}, shapes)
    warmed = time.perf_counter()
    rules = MaskRules(secrets, shapes)
    done = time.perf_counter()
    needles = len(set().union(*map(needles_of, secrets.values())))
    print(f"check {len(shapes)} shapes    {(checked - began) * 1e3:8.1f} ms, each one alone")
    print(f"compile shapes     {(warmed - checked) * 1e3:8.1f} ms, once a process")
    print(
        f"compile secrets    {(done - warmed) * 1e3:8.1f} ms, {needles} needles of {len(secrets)}"
    )
    plain = 0.0
    for name, output in outputs(secrets["S0"], key).items():
        masked, scanned = rate(masks, rules, output, seconds), rate(scans, rules, output, seconds)
        print(
            f"{name:36} {masked:7.1f} MB/s, of the bare scan {masked / scanned:.2f}, "
            f"of clean lines {masked / (plain := plain or masked):.3f}"
        )
    began = time.perf_counter()
    rules.with_values(word(rng, 40) for _ in range(1000))
    print(f"1000 late values   {(time.perf_counter() - began) * 1e3:8.1f} ms together")
    stalls, late = [], rules
    for _ in range(200):
        began = time.perf_counter()
        late = late.with_values([word(rng, 40)])
        stalls.append(time.perf_counter() - began)
    mean, most = sum(stalls) / len(stalls) * 1e3, max(stalls) * 1e3
    print(f"a late value       {mean:8.1f} ms alone, at most {most:.0f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
