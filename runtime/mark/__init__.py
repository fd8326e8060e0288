"""How a result says that it was made: a badge that people see, metadata, and a watermark in the pixels."""
