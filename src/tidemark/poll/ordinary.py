"""Is this an ordinary answer, and what does it say? From bytes to a row, compiled. (pure)

Ordinary is HTTP/1.1 with status 200 on a connection that stays open, a body of known length or in one chunk, and in it
an observation of the influencer asked for, in plain ASCII JSON. All else is read elsewhere (`http1`, `mockstagram`), by
parsers that others test: so whatever is read here has to be read alike there (tests/poll/test_ordinary.py), and where
that is not plain to see, it is not ordinary.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tidemark.messages import COUNT_MAX, USERNAME_MAX_CHARACTERS
from tidemark.poll.compiled import compiled, copy
from tidemark.poll.tables import Answers, Bytes

OBSERVATION_MAX_BYTES: Final = 4_096
"""An observation has about 90 bytes."""

_STATUS: Final = np.frombuffer(b"HTTP/1.1 200 ", np.uint8)
_CONTENT_LENGTH: Final = np.frombuffer(b"content-length", np.uint8)
_TRANSFER_ENCODING: Final = np.frombuffer(b"transfer-encoding", np.uint8)
_CONNECTION: Final = np.frombuffer(b"connection", np.uint8)
_PROXY_CONNECTION: Final = np.frombuffer(b"proxy-connection", np.uint8)
_UPGRADE: Final = np.frombuffer(b"upgrade", np.uint8)
_CHUNKED: Final = np.frombuffer(b"chunked", np.uint8)
_CHUNKS_END: Final = np.frombuffer(b"\r\n0\r\n\r\n", np.uint8)
_KEEP_ALIVE: Final = np.frombuffer(b"keep-alive", np.uint8)
_PK: Final = np.frombuffer(b"pk", np.uint8)
_USERNAME: Final = np.frombuffer(b"username", np.uint8)
_FOLLOWER_COUNT: Final = np.frombuffer(b"followerCount", np.uint8)
_FOLLOWING_COUNT: Final = np.frombuffer(b"followingCount", np.uint8)
_TRUE: Final = np.frombuffer(b"true", np.uint8)
_FALSE: Final = np.frombuffer(b"false", np.uint8)
_NULL: Final = np.frombuffer(b"null", np.uint8)

_IN_CHUNKS: Final = -2
"""Length of a body that tells its length itself."""

_TAB: Final = 9
_LF: Final = 10
_CR: Final = 13
_SPACE: Final = 32
_QUOTE: Final = 34
_COMMA: Final = 44
_HYPHEN: Final = 45
_ZERO: Final = 48
_NINE: Final = 57
_COLON: Final = 58
_BACKSLASH: Final = 92
_OPEN: Final = 123
_CLOSE: Final = 125
_TILDE: Final = 126


@compiled
def _is(data: Bytes, begin: int, end: int, word: Bytes, any_case: bool) -> bool:
    """Whether data[begin:end] is the word; with `any_case` the word is in small letters."""
    if end - begin != len(word):
        return False
    for place in range(len(word)):
        letter = data[begin + place]
        if any_case and 65 <= letter <= 90:
            letter += 32
        if letter != word[place]:
            return False
    return True


@compiled
def _number(data: Bytes, begin: int, end: int) -> int:
    """The whole number in data[begin:end], of digits alone, no zero before them; -1 where it is none, or too large."""
    digits = end - begin
    if digits < 1 or digits > 10 or (digits > 1 and data[begin] == _ZERO):
        return -1
    number = 0
    for place in range(begin, end):
        digit = int(data[place])  # of 8 bits where it is not compiled
        if digit < _ZERO or digit > _NINE:
            return -1
        number = number * 10 + (digit - _ZERO)
    return number if number <= COUNT_MAX else -1


@compiled
def _find_body(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Where what follows the head of the answer at `at` begins, and how long it is, or _IN_CHUNKS.

    (-1, -1) where the head is not ordinary.
    """
    if end - at < len(_STATUS) or not _is(data, at, at + len(_STATUS), _STATUS, False):
        return -1, -1
    at += len(_STATUS)
    while at < end and _SPACE <= data[at] <= _TILDE:
        at += 1
    length = -1
    while True:
        # Here ends a line; another follows, or the end of the head.
        if at + 4 > end or data[at] != _CR or data[at + 1] != _LF:
            return -1, -1
        at += 2
        if data[at] == _CR:
            return (at + 2, length) if data[at + 1] == _LF and length != -1 else (-1, -1)
        name = at
        while at < end and data[at] != _COLON:
            letter = data[at]
            if not (
                97 <= letter <= 122 or 65 <= letter <= 90 or letter == _HYPHEN or _ZERO <= letter <= _NINE
            ):
                return -1, -1
            at += 1
        name_end = at
        if name_end == name:
            return -1, -1
        at += 1
        while at < end and data[at] == _SPACE:
            at += 1
        value = at
        while at < end and (_SPACE <= data[at] <= _TILDE or data[at] == _TAB):
            at += 1
        if _is(data, name, name_end, _CONTENT_LENGTH, True):
            if length != -1:
                return -1, -1
            length = _number(data, value, at)
            if length < 0:
                return -1, -1
        elif _is(data, name, name_end, _TRANSFER_ENCODING, True):
            if length != -1 or not _is(data, value, at, _CHUNKED, False):
                return -1, -1
            length = _IN_CHUNKS
        elif _is(data, name, name_end, _CONNECTION, True):
            if not _is(data, value, at, _KEEP_ALIVE, True):
                return -1, -1
        elif _is(data, name, name_end, _UPGRADE, True) or _is(data, name, name_end, _PROXY_CONNECTION, True):
            return -1, -1


@compiled
def _find_chunk(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Where the chunk begins of which the length stands at `at`, and that length; (-1, -1) where it is not ordinary."""
    length = 0
    digits = 0
    while at < end and data[at] != _CR:
        letter = int(data[at])
        if _ZERO <= letter <= _NINE:
            digit = letter - _ZERO
        elif 97 <= letter <= 102:
            digit = letter - 87
        elif 65 <= letter <= 70:
            digit = letter - 55
        else:
            return -1, -1
        length = 16 * length + digit
        digits += 1
        at += 1
        if digits > 4:
            return -1, -1
    if length == 0 or at + 2 > end or data[at + 1] != _LF:
        return -1, -1
    return at + 2, length


@compiled
def _past_space(data: Bytes, at: int, end: int) -> int:
    while at < end and (data[at] == _SPACE or data[at] == _LF or data[at] == _CR or data[at] == _TAB):
        at += 1
    return at


@compiled
def _string_end(data: Bytes, at: int, end: int) -> int:
    """Where the string that begins behind a quote at `at - 1` has its other quote; -1 where it is not plain ASCII."""
    while at < end and data[at] != _QUOTE:
        if data[at] < _SPACE or data[at] > _TILDE or data[at] == _BACKSLASH:
            return -1
        at += 1
    return at if at < end else -1


@compiled
def _word_end(data: Bytes, at: int, end: int) -> int:
    """Where the number or word at `at` ends."""
    while at < end and (_ZERO <= data[at] <= _NINE or 97 <= data[at] <= 122):
        at += 1
    return at


@compiled
def _read_observation(data: Bytes, at: int, end: int, answers: Answers, row: int) -> bool:
    """Read the body data[at:end] into the row; False, and nothing of it counts, where it is not ordinary.

    Ordinary is an object of the four fields, each once and in any order, beside which there may be others with plain
    strings, whole numbers, true, false or null.
    """
    at = _past_space(data, at, end)
    if at == end or data[at] != _OPEN:
        return False
    found = 0
    while True:
        at = _past_space(data, at + 1, end)  # behind the brace or a comma
        if at == end or data[at] != _QUOTE:
            return False
        name = at + 1
        name_end = _string_end(data, name, end)
        if name_end < 0:
            return False
        at = _past_space(data, name_end + 1, end)
        if at == end or data[at] != _COLON:
            return False
        at = _past_space(data, at + 1, end)
        if at == end:
            return False
        is_text = data[at] == _QUOTE
        value = at + 1 if is_text else at
        value_end = _string_end(data, value, end) if is_text else _word_end(data, value, end)
        if value_end < 0:
            return False
        if _is(data, name, name_end, _USERNAME, False):
            length = value_end - value
            if not is_text or length < 1 or length > USERNAME_MAX_CHARACTERS or found & 1:
                return False
            copy(answers.username[row], 0, data, value, length)
            answers.username_bytes[row] = length
            found |= 1
        else:
            number = -1 if is_text else _number(data, value, value_end)
            if _is(data, name, name_end, _PK, False):
                if number != answers.pk[row] or found & 2:
                    return False
                found |= 2
            elif _is(data, name, name_end, _FOLLOWER_COUNT, False):
                if number < 0 or found & 4:
                    return False
                answers.follower_count[row] = number
                found |= 4
            elif _is(data, name, name_end, _FOLLOWING_COUNT, False):
                if number < 0 or found & 8:
                    return False
                answers.following_count[row] = number
                found |= 8
            elif not (
                is_text
                or number >= 0
                or _is(data, value, value_end, _TRUE, False)
                or _is(data, value, value_end, _FALSE, False)
                or _is(data, value, value_end, _NULL, False)
            ):
                return False
        at = _past_space(data, value_end + 1 if is_text else value_end, end)
        if at == end:
            return False
        if data[at] == _CLOSE:
            return found == 15 and _past_space(data, at + 1, end) == end
        if data[at] != _COMMA:
            return False


@compiled
def read_answer(data: Bytes, at: int, end: int, answers: Answers, row: int) -> int:
    """Read the answer at `at` of data[:end] into the row; returns its end, or -1 where it is not ordinary and whole."""
    body, length = _find_body(data, at, end)
    if length == _IN_CHUNKS:
        body, length = _find_chunk(data, body, end)
        answer_end = body + length + len(_CHUNKS_END)
        if body < 0 or answer_end > end or not _is(data, body + length, answer_end, _CHUNKS_END, False):
            return -1
    else:
        answer_end = body + length
        if body < 0 or answer_end > end:
            return -1
    if length > OBSERVATION_MAX_BYTES or not _read_observation(data, body, body + length, answers, row):
        return -1
    return answer_end
