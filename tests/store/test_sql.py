from __future__ import annotations

import re

from tidemark.store import sql


def test_every_question_and_command_has_a_comment_that_says_what_for() -> None:
    for file in ("queries.sql", "commands.sql"):
        text = (sql._FOLDER / file).read_text()
        assert len(re.findall(r"^-- name: \w+\n-- \w", text, flags=re.MULTILINE)) == len(sql.named(file))


def test_statements_have_neither_comments_nor_a_semicolon() -> None:
    statements = [*sql.named("queries.sql").values(), *sql.named("commands.sql").values()]
    statements += [statement for migration in sql.migrations() for statement in migration.statements]
    for statement in statements:
        assert not re.search(r"^\s*--|;\s*$", statement, flags=re.MULTILINE)
        assert re.match(r"(SELECT|WITH|INSERT|CREATE|DROP|EXCHANGE|ALTER|OPTIMIZE) ?", statement), statement


def test_migrations_can_be_repeated_after_a_crash_in_their_middle() -> None:
    for migration in sql.migrations():
        for statement in migration.statements:
            first = statement.split("\n", 1)[0]
            assert " IF NOT EXISTS " in first or re.match(
                r"ALTER TABLE \w+\s+(MODIFY SETTING|COMMENT COLUMN) ", statement
            )
