"""From new videos or params to a judged challenger and a report: what CI runs, and people too."""
