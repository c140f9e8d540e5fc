"""What is said of the numbers: units, claims of the papers, records of ours, verdicts, audit and extrapolation."""
