"""Chaos: real processes, killed in every way while feedback flows; in the end the statistics must equal the log's."""
