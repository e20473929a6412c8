"""Which follow-ups are planned, and what a rules file may say."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calls.call_log import Action, CallLog, Source
from models.follow_ups.rules import (
    FollowUpKind,
    PlannedFollowUp,
    Rule,
    Rules,
    SkipReason,
    follow_ups_for,
    is_too_old,
)
from models.follow_ups.rules_file import BUILT_IN, RulesError, load_rules
from models.follow_ups.template_checks import TemplateError, check_template
from models.follow_ups.template_names import PARTS, Vocabulary

AT = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
BOOKING = Action("APPOINTMENT_BOOKING", "Book Consultation", executed_at=AT)
TRANSFER = Action("CALL_TRANSFER", "Transfer to Manager", executed_at=AT + timedelta(minutes=1))
SMS = Action("SMS", "Confirm", executed_at=AT)
DOCS = Path(__file__).parents[3] / "docs" / "rules.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def _call(**changes: object) -> CallLog:
    values: dict[str, object] = {"call_id": "c1", "source": Source.FETCH, "contact_id": "k1", "started_at": AT}
    return CallLog(**(values | changes))  # type: ignore[arg-type]


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(RulesError) as refused:
        load_rules(_file(tmp_path, text))
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'rules.toml'}, line ")
    return message.removeprefix(f"{tmp_path / 'rules.toml'}, ")


# Planning


def test_a_booking_and_a_transfer_become_one_note_each_in_the_order_they_happened() -> None:
    planned = follow_ups_for(
        _call(), [("a2", TRANSFER), ("a9", SMS), ("a1", BOOKING)], load_rules(None), location_id="L1"
    )
    assert planned == (
        PlannedFollowUp("booking-note", "a1", FollowUpKind.NOTE, "k1", None),
        PlannedFollowUp("transfer-note", "a2", FollowUpKind.NOTE, "k1", None),
    )


def test_two_bookings_in_one_call_become_two_notes() -> None:
    planned = follow_ups_for(_call(), [("a1", BOOKING), ("a2", BOOKING)], load_rules(None), location_id="L1")
    assert [each.action_key for each in planned] == ["a1", "a2"]


@pytest.mark.parametrize(
    ("call_log", "too_old", "reason"),
    [
        (_call(trial_call=True, contact_id=None), True, SkipReason.TRIAL_CALL),
        (_call(contact_id=None), True, SkipReason.NO_CONTACT),
        (_call(contact_id=""), False, SkipReason.NO_CONTACT),
        (_call(), True, SkipReason.TOO_OLD),
        (_call(), False, None),
    ],
)
def test_what_may_not_be_carried_out_is_planned_with_the_first_reason(
    call_log: CallLog, too_old: bool, reason: SkipReason | None
) -> None:
    (planned,) = follow_ups_for(call_log, [("a1", BOOKING)], load_rules(None), location_id="L1", too_old=too_old)
    assert planned.skip_reason is reason
    assert planned.contact_id == (call_log.contact_id or None)


def test_a_call_is_too_old_when_it_ended_longer_ago_than_the_follow_up_age() -> None:
    call, hour = _call(duration_seconds=60.0), timedelta(hours=1)
    ended_at = AT + timedelta(minutes=1)
    assert not is_too_old(call, now=ended_at + 72 * hour, age_hours=72)
    assert is_too_old(call, now=ended_at + 72 * hour + timedelta(seconds=1), age_hours=72)
    assert not is_too_old(_call(started_at=None), now=ended_at + 1000 * hour, age_hours=72)


def test_the_flag_of_a_handoff_between_agents_is_no_transfer() -> None:
    settled = _call(agent_handoff=True, duration_seconds=60.0, transcript="bot: hello", summary="A call.")
    assert follow_ups_for(settled, [], load_rules(None), location_id="L1") == ()
    planned = follow_ups_for(settled, [("a1", TRANSFER)], load_rules(None), location_id="L1")
    assert [each.action_key for each in planned] == ["a1"]


def test_a_transfer_that_an_earlier_release_planned_by_the_flag_is_not_told_again_when_its_action_turns_up() -> None:
    later = follow_ups_for(
        _call(agent_handoff=True),
        [("a1", TRANSFER), ("a2", TRANSFER), ("a3", BOOKING)],
        load_rules(None),
        location_id="L1",
        planned_as_call=True,
    )
    assert [each.action_key for each in later] == ["a3", "a2"]


@given(st.permutations([("a1", BOOKING), ("a2", TRANSFER), ("a3", SMS), ("a4", Action("NEW_TYPE"))]))
def test_the_plan_does_not_depend_on_the_order_of_the_document(keyed: list[tuple[str, Action]]) -> None:
    rules = Rules((Rule("all", "*", FollowUpKind.TAG), Rule("sms", "sms", FollowUpKind.TAG)))
    planned = follow_ups_for(_call(), keyed, rules, location_id="L1")
    assert [(each.action_key, each.rule_id) for each in planned] == [
        ("a1", "all"),
        ("a3", "all"),
        ("a3", "sms"),
        ("a2", "all"),
        ("a4", "all"),
    ]


def test_an_action_name_narrows_a_rule(tmp_path: Path) -> None:
    rules = load_rules(
        _file(
            tmp_path,
            '[[rule]]\nid = "sms-tag"\naction = "SMS"\naction_name = "confirm "\nkind = "tag"\ntags = ["x"]\n',
        )
    )
    keyed = [("a1", SMS), ("a2", Action("SMS", "Other"))]
    assert [each.action_key for each in follow_ups_for(_call(), keyed, rules, location_id="L1")] == ["a1"]


# The rules file


def test_without_a_file_the_two_built_in_rules_hold() -> None:
    rules = load_rules(None)
    assert [(rule.id, rule.action, rule.kind, rule.enabled) for rule in rules.everywhere] == [
        ("booking-note", "APPOINTMENT_BOOKING", "note", True),
        ("transfer-note", "CALL_TRANSFER", "note", True),
    ]
    assert all(set(rule.body) == {"en", "es"} for rule in rules.everywhere)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_in_the_documentation_is_a_good_rules_file(tmp_path: Path, example: str) -> None:
    assert load_rules(_file(tmp_path, example)).everywhere


def test_the_documentation_names_every_word_of_the_vocabulary() -> None:
    text = DOCS.read_text(encoding="utf-8")
    words = [name for name in Vocabulary.__dataclass_fields__ if name not in PARTS]
    words += [f"{whole}.{part}" for whole, parts in PARTS.items() for part in parts]
    assert [word for word in words if f"`{word}`" not in text] == []
    assert len(EXAMPLES) >= 4


def test_the_refusal_shown_in_the_documentation_is_the_real_one(tmp_path: Path) -> None:
    refusal = _refusal(
        tmp_path,
        '[[rule]]\nid = "callback-task"\naction = "SMS"\nkind = "note"\nbody = """\none\n{{ call.sumary }}\n"""\n',
    )
    assert refusal in DOCS.read_text(encoding="utf-8")


def test_a_file_adds_changes_and_switches_off(tmp_path: Path) -> None:
    rules = load_rules(
        _file(
            tmp_path,
            """
[[rule]]
id = "transfer-note"
enabled = false

[[rule]]
id = "booking-note"
body.es = "Cita"

[[rule]]
id = "callback-task"
action = "CALL_TRANSFER"
kind = "task"
title = "Call back"
due_in = "90m"
assigned_to = "u1"
""",
        )
    )
    booking, transfer, task = rules.everywhere
    assert booking.body["es"] == "Cita"
    assert booking.body["en"] == load_rules(None).everywhere[0].body["en"]
    assert not transfer.enabled
    assert (task.due_in, task.assigned_to) == (timedelta(minutes=90), "u1")
    planned = follow_ups_for(_call(), [("a1", TRANSFER)], rules, location_id="L1")
    assert [each.rule_id for each in planned] == ["callback-task"]


def test_a_rule_that_was_switched_off_is_still_found_for_what_it_planned(tmp_path: Path) -> None:
    rules = load_rules(_file(tmp_path, '[[rule]]\nid = "transfer-note"\nenabled = false\n'))
    found = rules.find("transfer-note", location_id="L1")
    assert found is not None
    assert found.body
    assert rules.find("gone", location_id="L1") is None


def test_an_account_has_its_own_version_of_a_rule(tmp_path: Path) -> None:
    rules = load_rules(
        _file(
            tmp_path,
            """
[[rule]]
id = "booking-note"
enabled = false
[[rule]]
id = "booking-note"
accounts = ["L1"]
enabled = true
body = "Ours"
[[rule]]
id = "only-l2"
accounts = ["L2"]
action = "*"
kind = "workflow"
workflow_id = "w1"
""",
        )
    )

    def planned(location_id: str) -> list[str]:
        return [each.rule_id for each in follow_ups_for(_call(), [("a", BOOKING)], rules, location_id=location_id)]

    assert (planned("L1"), planned("L2"), planned("L3")) == (["booking-note"], ["only-l2"], [])
    ours = rules.find("booking-note", location_id="L1")
    assert ours is not None
    assert ours.body == {"": "Ours"}


NOTE = '[[rule]]\nid = "mine"\naction = "SMS"\nkind = "note"\n'
REFUSALS = {
    "an open quote": ('[[rule]]\nid = "mine\n', "line 2: this is not TOML"),
    "an unknown key": (NOTE + "bdoy = 'x'\n", "line 5, rule 'mine': unknown key 'bdoy'; did you mean 'body'?"),
    "an unknown table": ("# one\n[[rules]]\nid = 'x'\n", "line 2: unknown key 'rules'; rules are written as [[rule]]"),
    "a single table": ("[rule]\nid = 'x'\n", "line 1: write every rule as a table of its own, headed [[rule]]."),
    "no id": ('\n[[rule]]\naction = "SMS"\n', "line 2, rule None: every rule needs an id"),
    "a bad id": ('[[rule]]\naction = "SMS"\nid = "My Rule"\n', "line 3, rule 'My Rule': every rule needs an id"),
    "an unknown kind": (
        '[[rule]]\nid = "mine"\naction = "SMS"\nkind = "notes"\n',
        "line 4, rule 'mine': kind: Input should be 'note', 'task', 'tag' or 'workflow'; did you mean 'note'?",
    ),
    "a misspelt built-in id": (
        '[[rule]]\nid = "boking-note"\nenabled = false\n',
        "line 1, rule 'boking-note': a new rule needs both action and kind; did you mean 'booking-note'?",
    ),
    "a missing template": (NOTE, "line 1, rule 'mine': kind = \"note\" needs body."),
    "a key of another kind": (
        NOTE + "body = 'x'\ndue_in = '2h'\n",
        "line 6, rule 'mine': due_in has no meaning for kind = \"note\".",
    ),
    "a changed kind": (
        '[[rule]]\nid = "booking-note"\nkind = "tag"\ntags = ["x"]\n',
        "line 3, rule 'booking-note': kind of this rule is 'note' and cannot be changed",
    ),
    "an unknown language": (
        NOTE + "[rule.body]\nen = 'x'\nfr = 'y'\n",
        "line 5, rule 'mine': body: unknown language 'fr'; write en or es.",
    ),
    "a wrong type": (
        NOTE + 'body = "x"\nenabled = "no"\n',
        "line 6, rule 'mine': enabled: Input should be a valid boolean.",
    ),
    "a span without a unit": (
        '[[rule]]\nid = "t"\naction = "SMS"\nkind = "task"\ntitle = "x"\ndue_in = "2"\n',
        "line 6, rule 't': due_in: write a time from the call",
    ),
    "accounts that are no list": (
        NOTE + "body = 'x'\naccounts = 'L1'\n",
        "line 6, rule 'mine': accounts: Input should be a valid list.",
    ),
    "a template without words": (
        NOTE + "body.en = 'x'\nbody.es = ' '\n",
        "line 6, rule 'mine': body: an empty template",
    ),
    "no template in any language": (
        NOTE + "body = {}\n",
        "line 5, rule 'mine': body: Dictionary should have at least 1",
    ),
    "two mistakes, of which the first is told": (
        NOTE + "enabled = 1\nbdoy = 'x'\naction_name = ''\n",
        "line 5, rule 'mine': enabled: Input should be a valid boolean.",
    ),
    "an id twice": (
        NOTE + "body = 'x'\n" + NOTE + "body = 'y'\n",
        "line 6, rule 'mine': this id is already at line 1, for the same accounts.",
    ),
    "an open block in a template": (
        NOTE + "body = '''\nfine\n{% if call.id %}\nopen\n'''\n",
        "line 8, rule 'mine': the template of body cannot be read: Unexpected end of template.",
    ),
    "an unknown filter": (
        NOTE + "body.es = '''\nfine\n{{ call.id | shout }}\n'''\n",
        "line 7, rule 'mine': the template of body cannot be read: No filter named 'shout'.",
    ),
    "an unknown word": (
        NOTE + "body = '''\n[[rule]]\nid = 'not a key'\n{% if late %}{{ sumary }}{% endif %}'''\n",
        "line 8, rule 'mine': the template of body names 'sumary', which there is not",
    ),
    "an unknown part in a tag": (
        '[[rule]]\nid = "t"\naction = "SMS"\nkind = "tag"\ntags = ["{{ action.nam }}"]\n',
        "line 5, rule 't': the template of tags names 'action.nam', which there is not; did you mean 'action.name'?",
    ),
    "an appointment taken for granted": (
        NOTE + 'body = """\n\n{{ appointment.title }}"""\n',
        "line 7, rule 'mine': the template of body fails on a sample call (without an appointment): UndefinedError",
    ),
    "a way out of the sandbox": (
        NOTE + "body = '{{ call.__class__.__mro__ }}'\n",
        "line 5, rule 'mine': the template of body names 'call.__class__'",
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_mistake_is_told_with_its_line_its_rule_and_what_to_do(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in _refusal(tmp_path, text)


def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"none\.toml: the rules file cannot be read .* Correct LEADWAY_RULES_FILE"):
        load_rules(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(RulesError, match="it is not UTF-8 text"):
        load_rules(tmp_path / "latin.toml")


def test_the_built_in_templates_leave_no_name_unknown() -> None:
    for rule in load_rules(None).everywhere:
        for source in rule.body.values():
            check_template(source)
    assert BUILT_IN.is_file()


def test_extracted_data_and_parameters_may_be_named_freely() -> None:
    check_template("{{ extracted.email }} {{ extracted.anything }} {{ action.parameters.calendarId }}")
    with pytest.raises(TemplateError):
        check_template("{{ extracted._values }}{{ ''.__class__ }}")
