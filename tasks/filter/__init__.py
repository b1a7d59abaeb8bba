"""Which queries stay: rules, duplicates, leaks of benchmarks. Every drop carries its reason and evidence."""
