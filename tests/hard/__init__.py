"""Hostile files against every reader: damaged inputs are refused in one line, soon, and in little memory.

::

    python -m tests.hard                              10,000 inputs over all readers, a table
    python -m tests.hard --reader "torch zip" --inputs 100000 --seed 7
    python -m tests.hard --seconds 60                 so long per reader
    python -m tests.hard --atheris --reader npz       coverage-guided, where atheris is installed
    python -m tests.hard.campaign FOLDER              that, all readers in turns, going on where it ended

Every reader works in a process of its own that may take ROOM_MB more than at its start, and each input has
LIMIT_S seconds. A reader may answer, or raise one of our errors with a message of one line; anything else (a
foreign exception, a crash, a hang, a gigabyte) is a finding and is printed with the seed that makes it again:
input number i of a seed is always the same bytes.
"""
