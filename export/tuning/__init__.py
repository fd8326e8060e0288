"""Offline tuning of one person: ``doppelgan enroll`` and ``doppelgan invert``. Needs torch."""
