#!/usr/bin/env python3
"""Compares the C tokenizer with the `tokenizers` library on whole files.

    make build/test/encode
    python tools/check_tokenizer.py build/test/encode MODEL_DIR TEXT ...

One line a file: its name, bytes, tokens, and "equal" or the first difference.
The exit code is 1 if there is any.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import subprocess
import sys

from tokenizers import Tokenizer


def compare(encode, directory, tokenizer, path):
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    expected = tokenizer.encode(text, add_special_tokens=False).ids
    run = subprocess.run([encode, directory, path], capture_output=True,
                         text=True, check=False)
    if run.returncode:
        return "failed: " + run.stderr.strip()
    found = [int(line) for line in run.stdout.split()]
    head = f"{len(text.encode())} bytes, {len(expected)} tokens: "
    if found == expected:
        return head + "equal"
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b),
              min(len(found), len(expected)))
    return (head + f"token {at}: found {found[at:at + 8]} of {len(found)}, "
            f"expected {expected[at:at + 8]} "
            + repr([tokenizer.id_to_token(i) for i in expected[at:at + 8]]))


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    encode, directory, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
    tokenizer = Tokenizer.from_file(directory + "/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    bad = 0
    for path in paths:
        result = compare(encode, directory, tokenizer, path)
        bad += not result.endswith("equal")
        print(f"{path}: {result}", flush=True)
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
