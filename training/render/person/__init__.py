"""A person: features drawn from a distribution, and their shape, skin, hair and glasses."""
