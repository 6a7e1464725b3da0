"""Everything a generator trains against."""
