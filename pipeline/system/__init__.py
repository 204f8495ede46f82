"""Services of the operating system: atomic files, locks, processes, threads, random streams, Ray, JSON values."""
