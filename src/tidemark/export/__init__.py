"""The history as a file for other programs.

table.py     a page of observations in the columns of the file (pure).
writing.py   CSV and Parquet, written as the pages come.
command.py   what `tidemark export` does.
"""
