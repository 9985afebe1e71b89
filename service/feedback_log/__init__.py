"""The feedback log: the ordered, partitioned, durable record of all events, behind one contract."""
