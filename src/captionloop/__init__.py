"""captionloop: an image-captioning service that learns from the people who use it."""

import os
from typing import Final

__version__ = "0.1.0"

OPENMP: Final = {"OMP_WAIT_POLICY": "passive"}
"""How threads that compute wait for each other, for everything that computes here: asleep, not spinning.

Where another process keeps a core busy, a thread that spins at a barrier takes the time that the thread it
waits for would need. `python -m benchmarks contention` has the table.
"""

# OpenMP reads its environment once, when torch is imported, and whatever computes imports this package before
# that. Child processes inherit it. Whoever has settings of their own keeps them.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ.update(OPENMP)
