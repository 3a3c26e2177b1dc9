"""The page in a real browser: what it shows, on which screens, and how soon after a takeover."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvipad.cli.ask import ask
from dvipad.lab.cluster import Cluster
from dvipad.lab.traffic import LongConnections, NewConnections
from dvipad.lab.web import web_server
from tests.daily.browser import BROWSER, Browser
from tests.e2e.cluster_tools import WAIT_S, echo_servers, wait_for_state
from tests.e2e.conftest import MakeCluster
from tests.e2e.test_health import fill, small_disk

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which(BROWSER) is None, reason="no Chromium: make daily"),
]

PICTURES = os.environ.get("DVIPAD_PICTURES")
"""A folder for screenshots, to be looked at."""
SCREENS = {"wide": (1280, 900), "phone": (360, 740)}
RATE = 100.0


def wait_until(cluster: Cluster, browser: Browser, expression: str) -> None:
    """Until a JavaScript expression is true on the page."""
    what = f"the page says {expression}"
    cluster.wait_until(lambda: browser.value(f"Boolean({expression})"), WAIT_S, what)


def photographer(browser: Browser) -> Callable[[str], None]:
    """Keeps what is to be seen, if somebody wants to look at it."""

    def take(name: str) -> None:
        if PICTURES:
            browser.picture(Path(PICTURES) / f"{name}.png")

    return take


OWNER_IS_LB1 = "document.querySelector('#dvipas tr[data-owner=lb1]')"
FLOWS = "document.querySelectorAll('#picture path.flow').length > 2"


def test_the_page_shows_the_cluster_on_every_screen(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    dvipa = cluster.spec.dvipa()
    with (
        echo_servers(cluster),
        web_server(cluster, "lb1") as web,
        Browser(cluster, "client") as browser,
    ):
        wait_for_state(cluster, "lb1", "ACTIVE")
        long = LongConnections(cluster, "client", dvipa, 7, connections=5)
        new = NewConnections(cluster, "client", dvipa, 7, rate=RATE)
        take = photographer(browser)
        browser.go(web.url())
        for dark in (False, True):
            for name, (width, height) in SCREENS.items():
                browser.size(width, height, dark=dark)
                wait_until(cluster, browser, f"{OWNER_IS_LB1} && {FLOWS}")
                assert browser.value("document.documentElement.scrollWidth") <= width
                take(f"{name}{'-dark' if dark else ''}")
        assert browser.value("document.querySelectorAll('#nodes li').length") == 5
        assert browser.value("document.getElementById('link').dataset.state") == "live"
        client = cluster.spec.host("client").address(4)
        browser.value(f"document.querySelector('[name=client]').value = '{client}'; 1")
        browser.value("document.querySelector('#search button').click(); 1")
        wait_until(cluster, browser, "document.getElementById('found').textContent.includes('→ t')")
        new.stop()
        long.stop()
        assert browser.complaints == []


SEES_LB2 = """
window.seen = 0;
new MutationObserver(() => {
  const row = document.querySelector('#dvipas tr[data-owner=lb2]');
  if (!window.seen && row) window.seen = Date.now();
}).observe(document.getElementById('dvipas'), { childList: true }); 1
"""


def test_the_page_shows_a_takeover_at_once(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(targets=1)
    with web_server(cluster, "lb2") as web, Browser(cluster, "client") as browser:
        wait_for_state(cluster, "lb1", "ACTIVE")
        browser.size(*SCREENS["wide"])
        browser.go(web.url())
        wait_until(cluster, browser, OWNER_IS_LB1)
        browser.value(SEES_LB2)
        cluster.fail("lb1")
        wait_until(cluster, browser, "window.seen")
        photographer(browser)("takeover")
        seen_ms = browser.value("window.seen")
        events = ask(cluster.paths.control("lb2"), {"command": "events"})["events"]
        decided_ms = next(each["wall_ms"] for each in events if each.get("after") == "TAKEOVER")
        print(f"page: the new owner is shown {seen_ms - decided_ms} ms after the decision")
        cluster.stop_daemon("lb2")
        lost = "document.getElementById('link').dataset.state === 'lost'"
        wait_until(cluster, browser, lost)
        cluster.start_daemon("lb2")
        wait_until(cluster, browser, "document.getElementById('link').dataset.state === 'live'")
        assert browser.complaints == []


def test_the_page_shows_troubles_of_other_nodes(make_cluster: MakeCluster, tmp_path: Path) -> None:
    card = "[...document.querySelectorAll('#nodes li')].find(c => c.textContent.includes('lb2'))"
    with small_disk(tmp_path / "state") as disk:
        settings = {"lb2": {"paths": {"state": str(disk)}}}
        cluster = make_cluster(targets=1, host_settings=settings)
        with web_server(cluster, "lb1") as web, Browser(cluster, "client") as browser:
            browser.size(*SCREENS["phone"])
            browser.go(web.url())
            wait_until(cluster, browser, card)
            fill(disk)
            wait_until(cluster, browser, f"{card}.querySelector('.trouble')")
            photographer(browser)("trouble")
            assert browser.value(f"{card}.querySelector('.trouble').textContent") == "storage full"
            (disk / "big").unlink()
            wait_until(cluster, browser, f"!{card}.querySelector('.trouble')")
            assert browser.complaints == []
