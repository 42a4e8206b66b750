"""What is claimed about speed, memory and learning, and the commands that show it."""

import captionloop  # noqa: F401 - before torch, for how its threads wait
