"""HTTP calls: connections to upstreams, and the time that they take from everybody else."""
