"""Making the demo people: rendering them, fitting the generator and the encoder, exporting the result."""
