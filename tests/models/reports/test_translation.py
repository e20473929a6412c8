"""Sentences are recognised whole and said in Spanish; what the catalogue lacks stays as it is."""

import re

import pytest

from models.follow_ups.languages import Language
from models.intake.reasons import Reason
from models.reconciling.webhook_coverage import AlarmCause
from models.reports.translation import catalogue, translated
from models.reports.verdict.of_what_was_given_up import REFUSALS
from workers.attempts.failure_policy import GRANT_REFUSED, PAUSING

NAMES = re.compile(r"\{(\w+)\}")


def test_a_sentence_is_said_in_spanish_with_what_differs_in_it() -> None:
    told = "no worker process is alive: no call is fetched and no note written"
    process, meanwhile = translated(told, Language.ES).split(": ")
    assert process == "no hay ningún proceso worker en marcha"
    assert meanwhile == "no se lee ninguna llamada ni se escribe ninguna nota"


def test_of_two_sentences_that_fit_the_one_with_more_words_is_meant() -> None:
    told = "Leadway allows 100 requests in 10 s, 5 are left today for all private integrations of the location"
    assert translated(told, Language.ES).endswith("para todas las integraciones privadas de la ubicación")


@pytest.mark.parametrize("text", ["", "Nobody has translated this.", "a {brace} and {{two}}", "line\nbreak", "Ünïcödé"])
def test_what_is_not_in_the_catalogue_stays_as_it_is(text: str) -> None:
    assert translated(text, Language.ES) == text
    assert translated(text, Language.EN) == text


@pytest.mark.parametrize("value", ["{location}", "{0}", "%s", "\\1", "a\nb", "it's; so"])
def test_what_comes_from_outside_is_only_put_in(value: str) -> None:
    assert value in translated(f"{value} is not served; served are {value}", Language.ES)


def test_both_languages_name_the_same_that_differs() -> None:
    different = [english for english, spanish in catalogue().items() if _names(english) != _names(spanish)]
    assert different == []


def test_every_sentence_that_belongs_to_a_state_has_its_spanish() -> None:
    sentences = [
        *(reason.sentence for reason in Reason),
        *(cause.sentence for cause in AlarmCause),
        *(detail for _, detail in PAUSING.values()),
        GRANT_REFUSED,
        *REFUSALS.values(),
    ]
    assert [each for each in sentences if each not in catalogue()] == []


def _names(text: str) -> list[str]:
    return sorted(NAMES.findall(text))
