"""Enrollment judged on pictures that it never saw: likeness, following, edits, time and memory."""
