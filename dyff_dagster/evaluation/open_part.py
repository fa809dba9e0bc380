"""The answers that are in memory and not yet in a part."""

from __future__ import annotations

import threading

from dyff_dagster.evaluation.part import Answer
from dyff_dagster.evaluation.parts import Parts

_LATE = 8
"""Parts' lengths by which a row may lag behind the others before it goes into a part of its own."""


class OpenPart:
    """Takes answers in as they come, and writes them together.

    A row that was asked again and again comes long after its neighbours. It does not go into a part with
    those of the day, which would then seem to reach from the one to the others.

    Args:
        parts: Where they are written.
        rows: Answers of one part.
    """

    def __init__(self, parts: Parts, rows: int) -> None:
        self._parts = parts
        self._rows = rows
        self._answers: list[Answer] = []
        # Parts are written in threads while answers come in.
        self._lock = threading.Lock()

    def add(self, answer: Answer) -> int:
        """Take an answer in; returns how many there are now."""
        with self._lock:
            self._answers.append(answer)
            return len(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def write(self) -> None:
        """Write what is there; it is durable when this returns.

        Raises:
            EvaluationError: Arrow cannot hold an answer; all others are written.
            OSError: The disk refused; what it refused is here again, for whoever writes next.
        """
        with self._lock:
            answers, self._answers = self._answers, []
        if not answers:
            return
        horizon = max(answer.position for answer in answers) - _LATE * self._rows
        late = [answer for answer in answers if answer.position < horizon]
        rest = [answer for answer in answers if answer.position >= horizon] if late else answers
        unwritten = [group for group in (rest, late) if group]
        try:
            while unwritten:
                self._parts.write(unwritten[0])
                del unwritten[0]
        except OSError:
            with self._lock:
                # A part that was written before the disk refused may be written twice: the same answers.
                self._answers[:0] = [answer for group in unwritten for answer in group]
            raise
        finally:
            del answers
