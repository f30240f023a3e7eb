"""Alarms, each said once in the log when it begins and once when it is over; in between they stand in a list."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from bct.channel.alarms import Alarm

log = structlog.get_logger()


class Bell:
    """Several watch, and each says all it knows at every look."""

    def __init__(self) -> None:
        self._ringing: dict[str, dict[tuple[str, str], Alarm]] = {}

    @property
    def alarms(self) -> list[Alarm]:
        return [alarm for each in self._ringing.values() for alarm in each.values()]

    def ring(self, who: str, alarms: Iterable[Alarm]) -> None:
        """who: one of those who watch; these are all its alarms now."""
        before = self._ringing.get(who, {})
        now = self._ringing[who] = {(alarm.word, alarm.about): alarm for alarm in alarms}
        for key in now.keys() - before.keys():
            log.error("alarm", word=now[key].word, about=now[key].about, text=now[key].text)
        for key in before.keys() - now.keys():
            log.info("alarm over", word=before[key].word, about=before[key].about)
