"""Well-known data sets as a folder of videos and the labels table that the catalog reads."""
