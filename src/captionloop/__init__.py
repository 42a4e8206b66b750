"""captionloop: an image-captioning service that learns from the people who use it."""

import os
from typing import Final

__version__ = "0.1.0"

OPENMP: Final = {"GOMP_SPINCOUNT": "6000"}
"""How threads wait for each other in everything that computes here: awake for some 0.25 ms, then asleep.

OpenMP itself lets them spin 300,000 turns. Where another process keeps a core busy, a thread that spins at a
barrier takes the time that the thread it waits for would need. Asleep at once, though, a training step takes
half as long again on an idle machine: most waits are short. `python -m benchmarks contention` has the table.
"""

# OpenMP reads its environment once, when torch is imported, and whatever computes imports this package before
# that. Child processes inherit it. Whoever has settings of their own keeps them.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ.update(OPENMP)
