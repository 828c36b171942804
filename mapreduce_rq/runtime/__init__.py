"""Loops, processes, clocks and signals: the shell around the pure core."""
