#!/usr/bin/env python3
"""The vectors of golden.txt, computed from the table in ../key_hash.rs by another implementation of xxh3 than ours.

    pip install xxhash && ./golden.py      # silent if every line agrees; else the lines that differ, and exit code 1
"""

import pathlib
import struct
import sys

import xxhash

SEED = int.from_bytes(b"thalweg\x01", "big")
MASK = (1 << 64) - 1
(NULL, BOOLEAN, INTEGER, LARGE, FLOAT, TEXT, BYTES, DECIMAL, DATE, TIME, TIMESTAMP, INSTANT, DURATION, INTERVAL, LIST,
 STRUCT, MAP) = range(17)


def fold(kind, data, state):
    return xxhash.xxh3_64_intdigest(data, seed=state ^ (kind * 0x9E3779B97F4A7C15 & MASK))


def leaf(kind, layout=None, *values):
    data = struct.pack("<" + layout, *values) if layout else b""
    return lambda state: fold(kind, data, state)


def integer(value):
    return leaf(INTEGER, "q", value) if value < 1 << 63 else leaf(LARGE, "Q", value)


def text(value):
    return lambda state: fold(TEXT, value.encode(), state)


def decimal(unscaled, exponent):
    while unscaled and unscaled % 10 == 0:
        unscaled, exponent = unscaled // 10, exponent + 1
    width = 16 if -(1 << 127) <= unscaled < 1 << 127 else 32
    exponent = exponent if unscaled else 0
    data = unscaled.to_bytes(width, "little", signed=True) + struct.pack("<i", exponent)
    return lambda state: fold(DECIMAL, data, state)


def nested(kind, members):
    def run(state):
        state = fold(kind, struct.pack("<q", len(members)), state)
        for member in members:
            state = member(state)
        return state

    return run


def mapping(entries):
    total = sum(value(key(0)) for key, value in entries) & MASK
    return lambda state: fold(MAP, struct.pack("<qQ", len(entries), total), state)


NULL_VALUE = leaf(NULL)
ROWS = {
    "NULL": [NULL_VALUE],
    "BOOLEAN true": [leaf(BOOLEAN, "B", 1)],
    "BOOLEAN false": [leaf(BOOLEAN, "B", 0)],
    **{f"INTEGER {value}": [integer(value)] for value in (0, 42, -1, (1 << 63) - 1, 1 << 63)},
    "FLOAT 0.0": [leaf(FLOAT, "d", 0.0)],
    "FLOAT 1.5": [leaf(FLOAT, "d", 1.5)],
    "FLOAT NaN": [leaf(FLOAT, "Q", 0x7FF8000000000000)],
    "FLOAT -Infinity": [leaf(FLOAT, "d", float("-inf"))],
    "TEXT ''": [text("")],
    "TEXT 'thalweg'": [text("thalweg")],
    "TEXT 'Donau-Löß €𝄞'": [text("Donau-Löß €𝄞")],
    "TEXT 'x' * 300": [text("x" * 300)],
    "BYTES 00FF": [lambda state: fold(BYTES, b"\x00\xff", state)],
    "DECIMAL 0": [decimal(0, -2)],
    "DECIMAL 1.5": [decimal(15, -1)],
    "DECIMAL -12300": [decimal(-12300, 0)],
    "DECIMAL 2^200 + 1": [decimal((1 << 200) + 1, 0)],
    "DATE 2026-11-22": [leaf(DATE, "q", 20779)],
    "TIME 00:00:01.5": [leaf(TIME, "q", 1_500_000_000)],
    "TIMESTAMP 1970-01-01 00:00:01.5": [leaf(TIMESTAMP, "qI", 1, 500_000_000)],
    "TIMESTAMP 1969-12-31 23:59:59.999999999": [leaf(TIMESTAMP, "qI", -1, 999_999_999)],
    "INSTANT 1970-01-01 00:00:01.5": [leaf(INSTANT, "qI", 1, 500_000_000)],
    "DURATION 1.5 s": [leaf(DURATION, "qq", 1_500_000_000, 0)],
    "INTERVAL 1 month 2 days 3 ns": [leaf(INTERVAL, "iiq", 1, 2, 3)],
    "LIST []": [nested(LIST, [])],
    "LIST [1, NULL, 3]": [nested(LIST, [integer(1), NULL_VALUE, integer(3)])],
    "STRUCT (1, 'a')": [nested(STRUCT, [integer(1), text("a")])],
    "MAP {'a': 1, 'b': 2}": [mapping([(text("a"), integer(1)), (text("b"), integer(2))])],
    "ROW ('a', 1)": [text("a"), integer(1)],
    "ROW (1, NULL)": [integer(1), NULL_VALUE],
}


def main():
    failed = False
    lines = (pathlib.Path(__file__).parent / "golden.txt").read_text().splitlines()
    for line in (line for line in lines if line and not line.startswith("#")):
        committed, name = line.split("\t")
        state = SEED
        for column in ROWS[name]:
            state = column(state)
        if f"{state:016x}" != committed:
            failed = True
            print(f"{state:016x}\t{name}\t(golden.txt: {committed})")
    sys.exit(failed)


if __name__ == "__main__":
    main()
