"""The whole loop with simulated people: see `benchmarks.loop.__main__`."""
