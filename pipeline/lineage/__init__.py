"""From a registered version back to the code, params and data that it was made from."""
