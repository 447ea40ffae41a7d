"""Keeps what a reviewing process says of its acts; outlives its being killed."""

import sys

if __name__ == "__main__":
    with open(sys.argv[1], "ab") as file:  # noqa: PTH123 - the fewest imports
        for line in sys.stdin.buffer:
            file.write(line)
            file.flush()
