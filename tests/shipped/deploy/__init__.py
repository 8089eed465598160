"""Everything in deploy/, read by the program that will read it at a user's."""
