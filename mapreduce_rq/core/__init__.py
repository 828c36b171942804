"""Pure: the same input gives the same output. No redis, clock, randomness, os, threads or logging here."""
