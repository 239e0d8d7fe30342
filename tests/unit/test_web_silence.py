"""When a display counts as stopped, and as running again."""

from openegress.source.web.silence import PING_AFTER_S, SILENT_S, DisplayEvent, DisplaySilence


def test_a_still_page_is_asked_and_a_stopped_display_told_once() -> None:
    silence = DisplaySilence(0.0)
    assert not silence.is_to_be_asked(PING_AFTER_S / 2)
    assert silence.is_to_be_asked(PING_AFTER_S + 1)
    assert silence.look(3.0, 3.1) is DisplayEvent.NONE
    silence.heard(3.1)
    assert not silence.is_to_be_asked(3.2)
    assert silence.look(None, 3.2) is DisplayEvent.NONE
    told = [silence.look(6.0, 6.0 + after_s) for after_s in (1.0, SILENT_S + 1, SILENT_S + 2)]
    assert told == [DisplayEvent.NONE, DisplayEvent.STOPPED, DisplayEvent.NONE]
    assert [silence.look(None, 20.0), silence.look(None, 21.0)] == [DisplayEvent.ANSWERS, DisplayEvent.NONE]
