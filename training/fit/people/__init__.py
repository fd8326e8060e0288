"""Who is learned from: data sets, batches, what is varied, and the vector of a person's features."""
