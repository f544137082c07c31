"""Suspicious or not? Takes turns from the log, asks the API about each influencer, puts verdicts on the log.

agenda.py      who is asked next, and who again later (pure).
turn.py        what is left of a turn, and which verdicts were not told yet (pure).
api.py         one API address: the details of an influencer, then the verdict on them.
alarm.py       one timer for all that wait for a moment.
connection.py  which connection carries a call, and how its answer comes back.
classifier.py  puts them together.

    turn --> what is left of it, by the record of the verdicts --> agenda --> GET details --> POST them
      ^                                                                                          |
      '--- acknowledged when everybody has a verdict on the log <--- verdicts, every two seconds -'

A classifier holds no state: the verdicts on the log are the record of who had a turn, so whoever takes a
turn that another left goes on where that one was.
"""
