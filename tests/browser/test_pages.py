"""The operators' pages in a browser: usable at any width, in the dark, by keyboard, and by who cannot see them."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PASSWORD, sign_in
from tests.support.rows import on_postgresql
from tests.support.waiting import eventually
from tests.support.world import World


def violations(page: Page) -> list[str]:
    """What axe-core has against the page."""
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in Axe().run(page).response["violations"]]


@on_postgresql
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "es"])
def test_every_page_fits_its_window_and_has_no_violation(
    chromium: Browser, world: World, width: int, scheme: str, language: str
) -> None:
    root = f"http://127.0.0.1:{world.port}"
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, locale=language, bypass_csp=True
    )
    # axe is a script that the test puts into the page: hence bypass_csp, here and nowhere else.
    with context:
        page = context.new_page()
        page.goto(f"{root}/ops/")
        seen = {"sign-in": violations(page)}
        page.locator("[name=name]").fill("ops")
        page.locator("[name=password]").fill(PASSWORD)
        page.locator("form button").click()
        page.wait_for_url(f"{root}/ops/")
        [dead] = world.rows("SELECT call_id, location_id, follow_up_id FROM follow_ups WHERE status = 'dead'")
        call = f"/ops/calls/{dead['location_id']}/{dead['call_id']}"
        acts = (f"{call}/refetch", f"{call}/{dead['follow_up_id']}/send", f"/ops/accounts/{dead['location_id']}/pause")
        paths = ("/ops/", "/ops/setup", "/ops/?find=nobody", call, *acts, "/ops/audit", "/ops/calls/x/unknown")
        for path in paths:
            page.goto(f"{root}{path}")
            seen[path] = violations(page)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} wide"
    assert {path: found for path, found in seen.items() if found} == {}


@on_postgresql
def test_a_missing_note_is_found_by_the_callers_number_and_sent_again_by_keyboard_alone(
    chromium: Browser, world: World
) -> None:
    root = f"http://127.0.0.1:{world.port}"
    [dead] = world.rows(
        "SELECT f.follow_up_id, c.from_number, c.call_id FROM follow_ups f"
        " JOIN calls c ON c.location_id = f.location_id AND c.call_id = f.call_id WHERE f.status = 'dead'"
    )
    notes = len(world.double.truth.notes())
    with chromium.new_context() as context:
        page = context.new_page()
        sign_in(page, root)
        page.get_by_label("Find a call").focus()
        page.keyboard.type(dead["from_number"])
        page.keyboard.press("Enter")
        page.wait_for_load_state()
        if "/calls/" not in page.url:  # others called from this number, too
            page.locator(f"a[href$='/{dead['call_id']}']").first.focus()
            page.keyboard.press("Enter")
        expect(page.get_by_text("contact_unknown", exact=True)).to_be_visible()
        page.get_by_role("link", name="Try again now").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Try again now")).to_be_focused()
        expect(page.get_by_text("nothing is written twice")).to_be_visible()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("It is tried again now.")
        eventually(lambda: len(world.double.truth.notes()) == notes + 1, timeout=30, describe="the note to be written")
        expect(page.locator(".follow-up .pill.good")).to_have_count(1)  # without being asked for again


@on_postgresql
def test_the_setup_pages_buttons_copy_what_stands_beside_them_also_while_the_page_renews_itself(
    chromium: Browser, world: World
) -> None:
    root = f"http://127.0.0.1:{world.port}"
    with chromium.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        sign_in(page, root)
        page.goto(f"{root}/ops/setup?watch")
        assert world.double.notify(world.double.place_call()).accepted
        button = page.locator("button.copy").first
        expect(button).to_be_visible()
        wanted = page.locator("button.copy").first.evaluate("it => it.previousElementSibling.textContent")
        button.click()
        expect(page.locator("button.copy").first).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == wanted

    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        sign_in(page, root)
        page.goto(f"{root}/ops/setup")
        expect(page.locator("button.copy").first).to_be_hidden()
