"""The history: ClickHouse, embedded (chDB) by default or a server.

clickhouse.py   `Store`: open, insert, read, close.
rollups.py      closes hours and days.
periods.py      which periods are closed, and what was written to them since (pure).
series.py       which step a chart gets, and what a series is (pure).
snapshots.py    when everybody's followers are written down, and which moment is compared with (pure).
changes.py      what an influencer had an hour, a day, a week ago.
pages.py        the whole history, a page at a time.
retention.py    how long each table keeps its rows (pure).
dsn.py, lock.py, native.py, sql.py    addresses, one process a folder, the insert format, the SQL files.
migrations/     the schema; queries.sql: every question; commands.sql: what is written by SQL.
"""
