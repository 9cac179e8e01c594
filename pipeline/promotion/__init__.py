"""From challenger to champion and back: the gate, what it judges by, and who was champion when."""
