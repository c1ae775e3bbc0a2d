"""What a worker lays on its own disk because it would not fit in memory; gone with the process."""
