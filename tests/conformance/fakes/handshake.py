"""A child that answers `start` with its argument and no more; without one it ends, with two it does not flush."""

import os
import sys
import time

if len(sys.argv) == 1:
    sys.exit("no licence found")
sys.stdin.readline()
output = os.fdopen(os.dup(1), "w")  # buffered, whatever the environment says about standard output
print(sys.argv[1], file=output, flush=len(sys.argv) == 2)
time.sleep(600)
