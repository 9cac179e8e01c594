"""What is told of the data and of a model's predictions: scores, tables and pictures."""
