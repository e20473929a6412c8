"""The words of notes and tasks, shown whole, and what no caller and no CRM can do to them."""

import html
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.calls.call_log import Action, CallLog, Source
from models.follow_ups.languages import Language, delay, language_of, length, long_time
from models.follow_ups.references import carries_reference, reference_for, reference_line
from models.follow_ups.rules import FollowUpKind, Rule
from models.follow_ups.rules_file import load_rules
from models.follow_ups.sanitizing import one_line, several_lines
from models.follow_ups.template_names import AppointmentLookup, BookedAppointment, NoteContext
from models.follow_ups.templates import WordingError, tags_for, word_note, word_task

AT = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
BOOKING_NOTE, TRANSFER_NOTE = load_rules(None).everywhere
REFERENCE = reference_for("L1", "c1", "booking-note", "a1")
LOG = CallLog(
    "c1",
    Source.FETCH,
    contact_id="k1",
    from_number="+34600111222",
    started_at=AT,
    duration_seconds=200.0,
    summary="Ana would like a first visit.\n\nShe prefers afternoons.",
    extracted_data={"email": "ana@example.com", "wishes": ["parking", "lift"], "nested": {"a": 1}},
)
BOOKING = Action("APPOINTMENT_BOOKING", "Book Consultation", "a1", executed_at=AT + timedelta(minutes=2))
TRANSFER = Action(
    "CALL_TRANSFER", "Transfer", "a2", {"transferToValue": "+12345678901"}, executed_at=AT + timedelta(minutes=2)
)
VISIT = BookedAppointment("First visit", datetime(2024, 1, 16, 15, 0, tzinfo=UTC), "confirmed")


def _context(action: Action | None = BOOKING, **changes: Any) -> NoteContext:
    context = NoteContext(
        LOG,
        action,
        language="en",
        time_zone="Europe/Madrid",
        reference=REFERENCE,
        appointment=VISIT,
        appointment_lookup=AppointmentLookup.FOUND,
    )
    return replace(context, **changes)


def _without_appointment(lookup: AppointmentLookup, **changes: Any) -> NoteContext:
    return _context(appointment=None, appointment_lookup=lookup, **changes)


def _note(*templates: str, **words: Any) -> Rule:
    return Rule("mine", "SMS", FollowUpKind.NOTE, body={"": templates[0]} if templates else {}, **words)


# Whole notes


def test_a_found_booking_in_english() -> None:
    assert word_note(BOOKING_NOTE, _context()) == (
        "The voice agent booked an appointment during a call.\n"
        "\n"
        "Appointment: First visit\n"
        "When: Tuesday 16 January 2024, 16:00 (Europe/Madrid)\n"
        "Status: confirmed\n"
        "\n"
        "Call: Monday 15 January 2024, 11:30 (Europe/Madrid)\n"
        "Number: +34600111222\n"
        "Length: 3 min 20 s\n"
        "\n"
        "Summary:\n"
        "– Ana would like a first visit.\n"
        "– She prefers afternoons.\n"
        "\n"
        f"Leadway call reference: {REFERENCE}"
    )


def test_a_found_booking_in_spanish() -> None:
    assert word_note(BOOKING_NOTE, _context(language="es")) == (
        "El agente de voz reservó una cita durante una llamada.\n"
        "\n"
        "Cita: First visit\n"
        "Fecha de la cita: martes, 16 de enero de 2024, 16:00 (Europe/Madrid)\n"
        "Estado: confirmada\n"
        "\n"
        "Llamada: lunes, 15 de enero de 2024, 11:30 (Europe/Madrid)\n"
        "Número: +34600111222\n"
        "Duración: 3 min 20 s\n"
        "\n"
        "Resumen:\n"
        "– Ana would like a first visit.\n"
        "– She prefers afternoons.\n"
        "\n"
        f"Referencia de llamada de Leadway: {REFERENCE}"
    )


def test_a_booking_without_an_appointment_says_so_in_english() -> None:
    short = replace(LOG, summary="Wants a visit.")
    assert word_note(BOOKING_NOTE, _without_appointment(AppointmentLookup.NOT_FOUND, call_log=short)) == (
        "During a call the voice agent started to book an appointment (Book Consultation), but no appointment was found"
        " in the calendar. Please check with the contact.\n"
        "\n"
        "Call: Monday 15 January 2024, 11:30 (Europe/Madrid)\n"
        "Number: +34600111222\n"
        "Length: 3 min 20 s\n"
        "\n"
        "Summary:\n"
        "Wants a visit.\n"
        "\n"
        f"Leadway call reference: {REFERENCE}"
    )


@pytest.mark.parametrize(
    ("lookup", "language", "first_line"),
    [
        (
            AppointmentLookup.UNAVAILABLE,
            "en",
            "During a call the voice agent started to book an appointment (Book Consultation). The calendar could not"
            " be looked up, so this note cannot say whether or for when. Please check the calendar.",
        ),
        (
            AppointmentLookup.NOT_FOUND,
            "es",
            "Durante una llamada, el agente de voz inició la reserva de una cita (Book Consultation), pero no se"
            " encontró ninguna cita en el calendario. Conviene confirmarlo con el contacto.",
        ),
        (
            AppointmentLookup.UNAVAILABLE,
            "es",
            "Durante una llamada, el agente de voz inició la reserva de una cita (Book Consultation). No se pudo"
            " consultar el calendario, por lo que esta nota no puede indicar si la cita quedó reservada ni para cuándo."
            " Conviene revisar el calendario.",
        ),
    ],
)
def test_a_booking_that_is_not_certain_is_not_called_booked(
    lookup: AppointmentLookup, language: str, first_line: str
) -> None:
    assert word_note(BOOKING_NOTE, _without_appointment(lookup, language=language)).split("\n")[0] == first_line


def test_a_transfer_in_english_is_started_and_no_more() -> None:
    assert word_note(TRANSFER_NOTE, _context(TRANSFER)).split("\n\n")[0] == (
        "During a call the voice agent started a transfer to +12345678901 at 11:32. Whether anyone answered is not in"
        " the call log."
    )


def test_a_late_transfer_in_spanish_says_how_late() -> None:
    late = _context(TRANSFER, language="es-MX", late=True, written_at=AT + timedelta(hours=50), time_zone="UTC")
    assert word_note(TRANSFER_NOTE, replace(late, call_log=replace(LOG, summary=""))) == (
        "Durante una llamada, el agente de voz inició una transferencia a +12345678901 (10:32 h). El registro de la"
        " llamada no indica si alguien atendió.\n"
        "\n"
        "Llamada: lunes, 15 de enero de 2024, 10:30 (UTC)\n"
        "Número: +34600111222\n"
        "Duración: 3 min 20 s\n"
        "Esta nota se escribió 2 días después de la llamada, porque se tuvo constancia de ella con retraso.\n"
        "\n"
        "Esta llamada no tiene resumen.\n"
        "\n"
        f"Referencia de llamada de Leadway: {REFERENCE}"
    )


def test_a_call_of_which_nothing_is_known_still_gives_an_honest_note() -> None:
    bare = _context(None, call_log=CallLog("c1", Source.LIST), late=True)
    assert word_note(TRANSFER_NOTE, bare) == (
        "During a call the voice agent started a transfer. To whom, and whether anyone answered, is not in the call"
        " log.\n"
        "\n"
        "Call: not known\n"
        "Number: not known\n"
        "Length: not known\n"
        "This note was written late, because the call became known late.\n"
        "\n"
        "This call has no summary.\n"
        "\n"
        f"Leadway call reference: {REFERENCE}"
    )
    assert word_note(TRANSFER_NOTE, replace(bare, language="es")) == (
        "Durante una llamada, el agente de voz inició una transferencia. El registro de la llamada no indica a quién ni"
        " si alguien atendió.\n"
        "\n"
        "Llamada: no consta\n"
        "Número: no consta\n"
        "Duración: no consta\n"
        "Esta nota se escribió con retraso, porque se tuvo constancia de la llamada más tarde.\n"
        "\n"
        "Esta llamada no tiene resumen.\n"
        "\n"
        f"Referencia de llamada de Leadway: {REFERENCE}"
    )


def test_a_late_note_in_english_says_by_how_much_counted_from_the_calls_end() -> None:
    late = _context(late=True, written_at=AT + timedelta(seconds=200, hours=5))
    assert "\nThis note was written 5 hours after the call, because the call became known late.\n" in word_note(
        BOOKING_NOTE, late
    )


@pytest.mark.parametrize(
    ("starts_at", "shown"),
    [
        ("2024-01-16 16:00:00", "Tuesday 16 January 2024, 16:00"),
        ("2024-01-16T16:00:00+01:00", "Tuesday 16 January 2024, 16:00 (Europe/Madrid)"),
        ("tomorrow\nStatus: paid", "tomorrow Status: paid"),
        (None, "not known"),
    ],
)
def test_an_appointments_time_is_shown_with_a_zone_only_if_it_came_with_one(starts_at: str | None, shown: str) -> None:
    note = word_note(BOOKING_NOTE, _context(appointment=BookedAppointment("", starts_at, "")))
    assert note.split("\n\n")[1] == f"Appointment: no title\nWhen: {shown}"


# Times


def test_the_hour_that_occurs_twice_is_told_with_its_offset() -> None:
    first = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    words = [
        long_time(moment, language=Language.EN, time_zone="Europe/Madrid")
        for moment in (first - timedelta(hours=1), first, first + timedelta(hours=1), first + timedelta(hours=2))
    ]
    assert words == [
        "Sunday 27 October 2024, 01:30 (Europe/Madrid)",
        "Sunday 27 October 2024, 02:30 (Europe/Madrid, UTC+0200)",
        "Sunday 27 October 2024, 02:30 (Europe/Madrid, UTC+0100)",
        "Sunday 27 October 2024, 03:30 (Europe/Madrid)",
    ]


def test_over_the_missing_hour_of_spring_the_clock_jumps() -> None:
    before = datetime(2024, 3, 31, 0, 59, tzinfo=UTC)
    words = [
        long_time(moment, language=Language.ES, time_zone="Europe/Madrid")
        for moment in (before, before + timedelta(minutes=1))
    ]
    assert words == [
        "domingo, 31 de marzo de 2024, 01:59 (Europe/Madrid)",
        "domingo, 31 de marzo de 2024, 03:00 (Europe/Madrid)",
    ]


@pytest.mark.parametrize("name", ["Mars/Base", "", "../../etc/passwd", "Europe", "a\0b"])
def test_an_unknown_time_zone_gives_utc_and_says_so(name: str) -> None:
    assert long_time(AT, language=Language.EN, time_zone=name) == "Monday 15 January 2024, 10:30 (UTC)"


def test_lengths_and_delays_in_words() -> None:
    assert [length(seconds) for seconds in (0, 45.4, 180, 3725)] == ["0 s", "45 s", "3 min", "1 h 2 min 5 s"]
    spans = [timedelta(seconds=-5), timedelta(minutes=59), timedelta(hours=1), timedelta(hours=47), timedelta(days=3)]
    assert [delay(span, language=Language.ES) for span in spans] == [
        "1 minuto",
        "59 minutos",
        "1 hora",
        "47 horas",
        "3 días",
    ]


@pytest.mark.parametrize(
    ("code", "language"), [("es-MX", "es"), ("ES_es", "es"), ("en-GB", "en"), ("ca", "en"), ("", "en")]
)
def test_a_language_code_is_read_generously(code: str, language: str) -> None:
    assert language_of(code) == language


# Tasks, tags, templates


def test_a_task_has_a_one_line_title_and_a_body_with_the_reference() -> None:
    rule = Rule(
        "callback",
        "*",
        FollowUpKind.TASK,
        title={"": "Call\n{{ call.number }}", "es": "Llamar a {{ extracted.email }}"},
    )
    words = word_task(rule, _context(late=True))
    assert words.title == "Call +34600111222"
    assert words.body.startswith("Call: Monday 15 January 2024")
    assert carries_reference(words.body, REFERENCE)
    assert word_task(rule, _context(language="es")).title == "Llamar a ana@example.com"


def test_tags_are_single_lines_without_empty_and_repeated_ones() -> None:
    tags = ("voice", "{{ action.name }}", "{{ extracted.missing }}", " voice ", "{{ extracted.wishes }}")
    rule = Rule("tags", "*", FollowUpKind.TAG, tags=tags)
    assert tags_for(rule, _context()) == ("voice", "Book Consultation", "parking, lift")


def test_a_template_that_fails_names_its_rule_and_none_of_the_words() -> None:
    rule = _note("{{ call.summary.index(extracted.email) }}")
    with pytest.raises(WordingError) as failed:
        word_note(rule, _context())
    assert str(failed.value) == "a template of rule 'mine' failed with ValueError"
    assert failed.value.__suppress_context__
    with pytest.raises(WordingError, match="no template"):
        word_note(_note(), _context())


# The reference


def test_the_reference_is_the_same_for_ever() -> None:
    assert reference_for("L1", "c1", "booking-note", "a1") == "a48daf27-7b34-503b-b846-40990cb7d84e"
    assert reference_for("L1", "c1", "booking-note", "a2") != REFERENCE
    assert reference_for("a", "b,c", "d", "e") != reference_for("a,b", "c", "d", "e")


CHANGES = {
    "nothing": lambda text: text,
    "html": lambda text: "<p>" + html.escape(text).replace("\n", "<br />\n") + "</p>",
    "escaped twice": lambda text: html.escape(html.escape(text)),
    "capitals": str.upper,
    "small letters": str.lower,
    "one line": lambda text: " ".join(text.split()),
    "no spaces": lambda text: "".join(text.split()),
    "hard spaces": lambda text: text.replace(" ", "&nbsp;"),
    "other dashes": lambda text: text.replace("-", "\u2011"),
    "marked up": lambda text: text.replace("reference: ", "<b>reference:</b> <span class='x'>"),
    "word breaks": lambda text: text.replace("-", "-<wbr>"),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "numeric entities": lambda text: "".join(f"&#{ord(character)};" for character in text),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("language", ["en", "es"])
def test_the_reference_survives_what_a_crm_does_to_a_note(change: Any, language: str) -> None:
    returned = change(word_note(BOOKING_NOTE, _context(language=language)))
    assert carries_reference(returned, REFERENCE)
    assert not carries_reference(returned, reference_for("L1", "c1", "booking-note", "a2"))


def test_the_reference_without_its_label_is_not_a_reference_line() -> None:
    assert not carries_reference(f"See {REFERENCE}.", REFERENCE)
    assert carries_reference(f"x\n{reference_line(REFERENCE, 'es')}", REFERENCE)


FORGERIES = [
    reference_line(REFERENCE, "en"),
    reference_line(REFERENCE, "es").upper(),
    f"ok\n\nLeadway call\u200b reference\u2028: {REFERENCE}",
    f"L&#101;adway c&amp;#97;ll refer<b>en</b>ce: {REFERENCE}",
    f"Lead&#\x0097;way call &#108\x00;eadway call reference: {REFERENCE}",
    f"Leadway Leadway call reference call reference: {REFERENCE}",
    f"\u212aLeadway_call-reference {REFERENCE}",
    "<!-- <script> <div style='display:none'>",
]


@given(st.text(max_size=400) | st.sampled_from(FORGERIES), st.sampled_from(["en", "es"]), st.sampled_from([*CHANGES]))
@example(FORGERIES[3], "en", "html")
def test_no_words_of_a_caller_pass_for_a_reference_line_or_hide_ours(words: str, language: str, change: str) -> None:
    other = reference_for("L1", "c2", "booking-note", "a1")
    log = replace(LOG, summary=words, from_number=words, extracted_data={"email": words})
    action = replace(BOOKING, name=words)
    context = _context(
        action, call_log=log, language=language, reference=other, appointment=BookedAppointment(words, words, words)
    )
    returned = CHANGES[change](word_note(BOOKING_NOTE, context))
    assert carries_reference(returned, other)
    assert not carries_reference(returned, REFERENCE)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_every_forgery_is_disarmed(forgery: str) -> None:
    for words in (one_line(forgery, limit=1000), several_lines(forgery)):
        assert not carries_reference(words, REFERENCE)
        assert "<" not in words
        assert "\n\n" not in words


def test_callers_words_keep_what_people_write() -> None:
    assert (
        one_line("  José\tÁlvarez ½ 1º\x00 \ud83d 😀👩‍👩‍👧 AT&amp;T ?a=1&region=2 ")
        == "José Álvarez ½ 1º 😀👩‍👩‍👧 AT&T ?a=1&region=2"
    )
    assert several_lines("* one\r\n\r\n- two\n\n\n-3 degrees") == "– one\n– two\n– -3 degrees"
    assert one_line({"a": 1}) == one_line(None) == ""


# The limit


@given(
    st.text(max_size=300),
    st.integers(min_value=1, max_value=60),
    st.sampled_from(["en", "es"]),
    st.sampled_from(
        [
            "{{ facts }}\n{{ call.summary }}",
            "{{ call.summary }}{{ call.summary }}",
            "😀x" * 4000,
            "{{ call.summary|upper }}" + "y " * 2600,
        ]
    ),
)
@example("😀" * 100, 60, "es", "{{ facts }}\n{{ call.summary }}")
def test_a_note_fits_and_keeps_its_reference_whatever_was_said(
    words: str, times: int, language: str, body: str
) -> None:
    log = replace(LOG, summary=words * times)
    note = word_note(_note(body), _context(call_log=log, language=language))
    assert len(note.encode("utf-16-le")) // 2 <= 5000
    assert note.endswith(f"\n{reference_line(REFERENCE, language)}")
    assert carries_reference(note, REFERENCE)


def test_a_long_summary_is_cut_between_words_and_little_more_than_needed() -> None:
    note = word_note(BOOKING_NOTE, _context(call_log=replace(LOG, summary="word " * 3000)))
    assert 4400 < len(note) <= 5000
    assert "word…\n\nLeadway call reference: " in note
    assert note.startswith("The voice agent booked")


@pytest.mark.parametrize(
    ("direction", "language", "told"),
    [
        ("inbound", "en", "Caller's number: +34600111222"),
        ("inbound", "es", "Número de quien llamó: +34600111222"),
        ("outbound", "en", "Number dialled: +34699000111"),
        ("outbound", "es", "Número marcado: +34699000111"),
        (None, "en", "Number: +34600111222"),
        ("sideways", "es", "Número: +34600111222"),
    ],
)
def test_a_note_says_who_called_only_where_the_log_tells(direction: str | None, language: str, told: str) -> None:
    log = replace(LOG, direction=direction, to_number="+34699000111")
    words = word_note(TRANSFER_NOTE, _context(TRANSFER, call_log=log, language=language))
    assert told in words.splitlines()
