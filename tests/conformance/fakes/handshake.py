"""A child that gets no further than its answer to `start`, which is its argument; without one it ends at once."""

import sys
import time

if len(sys.argv) == 1:
    sys.exit("no licence found")
sys.stdin.readline()
print(sys.argv[1], flush=True)
time.sleep(600)
