"""The web page: what is served with it, and what it does in headless Chromium (skipped where that is absent)."""
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import support
from server_test import Server

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian puts it, for another Python than Debian's
try:
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except Exception:  # absent, or in parts
    webdriver = None

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FILES = {"/": "text/html", "/page.js": "text/javascript", "/load.js": "text/javascript", "/page.css": "text/css", "/icon.svg": "image/svg+xml"}
# Where to leave pictures of the page for people to look at.
PICTURES = os.environ.get("PAGE_PICTURES")

# The least contrast of any text that is seen, by WCAG 2's formula, and where.
CONTRAST = r"""
const light = (c) => { const f = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
const parse = (s) => { const n = s.match(/[\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
let least = [99, ''];
for (const e of document.querySelectorAll('body *')) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || e.matches('input, textarea');
  if (!own || !e.checkVisibility() || e.closest('.hidden, .skip')) continue;
  for (const s of [getComputedStyle(e), ...(e.placeholder ? [getComputedStyle(e, '::placeholder')] : [])]) {
    const a = light(parse(s.color).slice(0, 3)), b = light(ground(e).slice(0, 3));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, e.outerHTML.slice(0, 80)];
  }
}
return least;
"""


class Served(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        keys = Path(cls.folder.name) / "keys"
        keys.write_text("secret-one\n")
        cls.server = Server("--api-key-file", keys, "--memory", "64M")

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        cls.folder.cleanup()
        assert code == 0, code

    def test_files_come_without_a_key_and_under_a_policy(self):
        for path, kind in FILES.items():
            status, text, headers = self.server.ask("GET", path)
            self.assertEqual(status, 200, path)
            self.assertTrue(headers["Content-Type"].startswith(kind), headers["Content-Type"])
            source = support.SOURCE / "src/server/page" / (path[1:] or "index.html")
            self.assertEqual(text, source.read_text())
            policy = headers["Content-Security-Policy"]
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertNotIn("*", policy)
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")

    def test_the_policy_can_hold(self):
        html = (support.SOURCE / "src/server/page/index.html").read_text()
        self.assertEqual(re.findall(r"<script(?![^>]*\bsrc=)", html), [])
        self.assertEqual(re.findall(r"<style|\bstyle=|\son\w+=|https?:", html), [])
        for name in ("page.js", "load.js"):
            code = (support.SOURCE / "src/server/page" / name).read_text()
            self.assertEqual(re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", code), [])
        for name in re.findall(r'(?:src|href)="(/[^"]*)"', html):
            self.assertIn(name, FILES)

    def test_status_wants_a_key_and_says_who_holds_what(self):
        self.assertEqual(self.server.ask("GET", "/status")[0], 401)
        status, body, _ = self.server.ask("GET", "/status", headers={"Authorization": "Bearer secret-one"})
        self.assertEqual(status, 200)
        self.assertEqual(body["memory"]["limit"], 64_000_000)
        self.assertEqual(sum(h["bytes"] for h in body["memory"]["holdings"]), body["memory"]["held"])
        self.assertIn("weights", [h["holder"] for h in body["memory"]["holdings"]])
        self.assertEqual((body["running"], body["waiting"]), (0, 0))


@unittest.skipUnless(webdriver and CHROMIUM and DRIVER, "no chromium, chromedriver and python3-selenium")
class InABrowser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--alias", "tiny", context=4096)
        cls.url = f"http://127.0.0.1:{cls.server.port}/"

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, code

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,860",
                     f"--user-data-dir={self.folder.name}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        try:
            self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER) if hasattr(webdriver, "ChromeService") else
                                           __import__("selenium.webdriver.chrome.service", fromlist=["Service"]).Service(DRIVER))
        except WebDriverException as e:
            self.folder.cleanup()
            self.skipTest(f"Chromium does not start here: {str(e)[:200]}")
        self.open()

    def tearDown(self):
        wrong = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE" and not re.search("status of 40[01]", e["message"])]
        self.driver.quit()
        self.folder.cleanup()
        self.assertEqual(wrong, [])

    def open(self, url=None):
        self.driver.get(url or self.url)
        self.wait(lambda: self.text("load-state") not in ("", "asking…"))

    def by(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.by(name).text

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition, seconds=60):
        WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: condition())

    def set(self, name, value):
        if not self.by("settings").get_attribute("open"):
            self.driver.find_element(By.CSS_SELECTOR, "#settings summary").click()
        field = self.by(name)
        field.clear()
        field.send_keys(str(value))

    def ask(self, text):
        before = len(self.all(".message.assistant"))
        self.by("prompt").send_keys(text + Keys.ENTER)
        self.wait(lambda: len(self.all(".message.assistant")) > before or self.text("problem"))
        self.assertEqual(self.text("problem"), "")

    def idle(self):
        self.wait(lambda: self.by("send").is_enabled())

    def answers(self):
        return [e.find_element(By.CSS_SELECTOR, "div").text for e in self.all(".message.assistant")]

    def picture(self, name):
        if PICTURES:
            self.driver.save_screenshot(str(Path(PICTURES) / f"{name}.png"))

    def stored(self):
        return json.loads(self.driver.execute_script("return localStorage.getItem('venturi.conversations')"))

    @contextlib.contextmanager
    def slowed(self):
        """The server runs a twentieth of the time: the small model would have said all of a long answer before a browser does anything."""
        over = threading.Event()

        def hold():
            while not over.is_set():
                self.server.process.send_signal(signal.SIGSTOP)
                over.wait(0.04)
                self.server.process.send_signal(signal.SIGCONT)
                time.sleep(0.002)
        thread = threading.Thread(target=hold)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def test_a_chat_is_kept_and_regenerated(self):
        self.set("max_tokens", 24)
        self.set("seed", 7)
        self.ask("Who came in?")
        self.idle()
        first = self.answers()[0]
        self.assertTrue(first)
        self.assertIn("tokens", self.all(".message.assistant .note")[0].text)
        self.assertRegex(self.text("first"), r"\d")
        # The same seed says the same, another says something else; there is one answer all along.
        self.by("again").click()
        self.idle()
        self.assertEqual(self.answers(), [first])
        self.set("seed", 8)
        self.by("again").click()
        self.idle()
        self.assertEqual(len(self.answers()), 1)
        self.assertNotEqual(self.answers(), [first])
        # What the server was asked is what the API would have been.
        body = {"messages": [{"role": "user", "content": "Who came in?"}], "max_tokens": 24, "seed": 7}
        self.assertEqual(self.server.ask("POST", "/v1/chat/completions", body)[1]["choices"][0]["message"]["content"].strip(), first.strip())
        # A second turn, a second conversation, and all of it after a reload.
        self.ask("And then?")
        self.idle()
        self.assertEqual(len(self.answers()), 2)
        self.by("new").click()
        self.assertEqual(self.answers(), [])
        self.ask("Another matter <img src=x onerror=alert(1)>")
        self.idle()
        self.assertEqual(self.all("#log img"), [])
        self.open()
        self.assertEqual([e.text for e in self.all("#conversations .open")], ["Another matter <img src=x onerror=alert(1)>", "Who came in?"])
        self.all("#conversations .open")[1].click()
        self.assertEqual(len(self.answers()), 2)
        self.all("#conversations .delete")[1].click()
        self.assertEqual([c["title"][:7] for c in self.stored()], ["Another"])

    def test_an_answer_is_stopped(self):
        self.set("max_tokens", 1500)
        self.set("temperature", 1)
        for how in ("button", "escape"):
            self.by("new").click()  # however much the other had said before it was stopped
            with self.slowed():
                self.ask("Tell me a long story, and go on and on.")
                self.wait(lambda: len(self.answers()[-1]) > 40)
                self.by("stop").click() if how == "button" else self.by("prompt").send_keys(Keys.ESCAPE)
                self.idle()
            self.assertEqual(self.all(".message.assistant .note")[-1].text, "stopped")
        self.assertTrue(self.server.settles())

    def test_the_picture_of_the_server_moves(self):
        self.assertIn("tiny", self.text("model"))
        self.assertIn("weights", self.text("holdings"))
        self.set("max_tokens", 1500)
        with self.slowed():
            self.ask("Go on and on.")
            self.wait(lambda: self.text("running") == "1")
            self.wait(lambda: float(self.text("rate").replace("–", "0")) > 0)
            self.wait(lambda: self.all("#chart polyline"))
            self.by("stop").click()
            self.idle()
        self.wait(lambda: self.text("running") == "0")

    def test_an_error_is_told(self):
        self.set("max_tokens", 100000)
        self.by("prompt").send_keys("Hm" + Keys.ENTER)
        self.wait(lambda: self.text("problem"))
        self.idle()
        self.assertIn("context", self.text("problem"))
        self.assertEqual(self.answers(), [])

    # What is asked of the server is noted down, and fails if that is wanted.
    FAILING = r'''
      const real = window.fetch;
      window.asked = [];
      window.fetch = (path, options) => {
        if (path !== '/v1/chat/completions') return real(path, options);
        window.asked.push(JSON.parse(options.body).messages);
        const event = (delta) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: null }] })}\n\n`;
        switch (window.failing) {
          case 'busy': return Promise.resolve(new Response('{"error":{"message":"too many wait"}}', { status: 429 }));
          case 'down': return Promise.reject(new TypeError('the network is down'));
          case 'silent': return Promise.resolve(new Response(event({ role: 'assistant' })));
          case 'cut': return Promise.resolve(new Response(event({ content: 'Once' }) + 'data: {"error":{"message":"the server is shutting down"}}\n\n'));
          case 'empty': return Promise.resolve(new Response(event({ role: 'assistant' }) + 'data: [DONE]\n\n'));
          case 'never': return new Promise((_, refuse) => { options.signal.onabort = () => refuse(new DOMException('', 'AbortError')); });
        }
        return real(path, options);
      };'''

    def answers_come(self, how):
        self.driver.execute_script("window.failing = arguments[0]", how)

    def alternates(self):
        for messages in self.driver.execute_script("return window.asked"):
            self.assertEqual([m["role"] for m in messages], [("user", "assistant")[i % 2] for i in range(len(messages))])

    def test_a_message_without_an_answer_comes_back(self):
        self.driver.execute_script(self.FAILING)
        self.set("max_tokens", 8)
        for turn in range(2):
            for how in ("busy", "down", "silent", "never"):
                self.answers_come(how)
                self.by("prompt").send_keys(f"Hm {turn}" + Keys.ENTER)
                if how == "never":
                    self.wait(lambda: self.by("stop").is_enabled())
                    self.by("stop").click()
                self.wait(lambda: self.by("prompt").get_property("value"))
                self.assertEqual(self.by("prompt").get_property("value"), f"Hm {turn}")
                said = self.by("announce").get_property("textContent")
                self.assertTrue(said.startswith("Stopped." if how == "never" else "No answer came."), said)
                self.assertIn("message field", said)
                self.assertEqual(self.by("problem").is_displayed(), how != "never")
                self.assertEqual(len(self.stored()[0]["messages"]), 2 * turn)
                self.assertEqual(len(self.all(".message")), 2 * turn)
                self.by("prompt").clear()
            self.answers_come("")
            self.ask(f"Hm {turn}")
            self.idle()
            self.assertEqual(self.by("announce").get_property("textContent"), "The answer is there.")
        self.assertEqual(self.driver.execute_script("return window.asked.at(-1).map((m) => m.content)[2]"), "Hm 1")
        self.alternates()

    def test_an_answer_that_fails_replaces_none(self):
        self.driver.execute_script(self.FAILING)
        self.set("max_tokens", 8)
        self.ask("Who came in?")
        self.idle()
        before = self.answers()
        self.answers_come("busy")
        self.by("again").click()
        self.idle()
        self.assertEqual(self.answers(), before)
        self.assertEqual(len(self.stored()[0]["messages"]), 2)
        self.answers_come("cut")
        self.by("again").click()
        self.idle()
        self.assertEqual(self.answers(), ["Once"])
        self.assertEqual(self.by("announce").get_property("textContent"), "The answer broke off.")
        # One that says nothing is an answer, too.
        self.answers_come("empty")
        self.ask("And then?")
        self.idle()
        self.assertEqual(self.answers(), ["Once", ""])
        self.assertIn("nothing was said", self.all(".message.assistant .note")[-1].text)
        self.answers_come("")
        self.ask("And then?")
        self.idle()
        self.assertEqual(len(self.stored()[0]["messages"]), 6)
        self.alternates()

    def test_what_was_left_without_an_answer_goes_with_the_next(self):
        left = [{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}]
        self.driver.execute_script("localStorage.setItem('venturi.conversations', arguments[0])", json.dumps([{"id": "1", "title": "Old", "messages": left}]))
        self.open()
        self.driver.execute_script(self.FAILING)
        self.set("max_tokens", 8)
        self.answers_come("never")
        self.by("prompt").send_keys("Three." + Keys.ENTER)
        self.wait(lambda: self.by("stop").is_enabled())
        self.by("prompt").send_keys("Typed meanwhile")
        self.by("stop").click()
        self.idle()
        self.assertEqual(self.by("prompt").get_property("value"), "Typed meanwhile")
        self.by("prompt").clear()
        self.answers_come("")
        self.ask("Four.")
        self.idle()
        self.assertEqual(self.driver.execute_script("return window.asked.at(-1)"), [{"role": "user", "content": "One.\n\nTwo.\n\nThree.\n\nFour."}])
        self.alternates()

    def test_by_keyboard_and_by_name(self):
        self.assertEqual(self.driver.switch_to.active_element.tag_name, "body")
        order = []
        for _ in range(8):
            self.driver.switch_to.active_element.send_keys(Keys.TAB)
            order.append(self.driver.switch_to.active_element.get_attribute("id") or self.driver.switch_to.active_element.text)
        self.assertEqual(order[0], "Skip to the message field")
        for name in ("theme", "key-button", "new", "log", "prompt"):
            self.assertIn(name, order)
        # Everything that can be used has a name.
        nameless = self.driver.execute_script("""
            return [...document.querySelectorAll('button, input, textarea, meter, dialog, nav, aside')].filter((e) =>
              !(e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || (e.tagName === 'BUTTON' && e.textContent.trim())))
              .map((e) => e.outerHTML.slice(0, 80))""")
        self.assertEqual(nameless, [])
        ids = self.driver.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
        self.assertEqual(len(ids), len(set(ids)))

    def test_light_dark_and_narrow(self):
        self.set("max_tokens", 60)
        self.ask("Who came in?")
        self.idle()
        for theme in ("light", "dark"):
            while self.driver.execute_script("return document.documentElement.dataset.theme") != theme:
                self.by("theme").click()
            ratio, where = self.driver.execute_script(CONTRAST)
            self.assertGreaterEqual(ratio, 4.5, f"{theme}: {where}")
            self.picture(theme)
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True})
        time.sleep(0.3)
        self.picture("phone")
        wide = self.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        self.assertLessEqual(wide[0], wide[1])
        self.assertFalse(self.by("new").is_displayed())
        self.by("menu").click()
        self.assertTrue(self.by("new").is_displayed())
        self.assertEqual(self.by("menu").get_attribute("aria-expanded"), "true")
        self.picture("phone-menu")
        self.by("new").click()
        self.assertFalse(self.by("new").is_displayed())
        small = self.driver.execute_script("""return [...document.querySelectorAll('button')].filter((b) => b.checkVisibility() &&
            b.getBoundingClientRect().height < 44).map((b) => b.id)""")
        self.assertEqual(small, [])

    def test_a_server_that_wants_a_key(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = Path(folder) / "keys"
            keys.write_text("the-secret\n")
            server = Server("--api-key-file", keys)
            try:
                self.open(f"http://127.0.0.1:{server.port}/")
                self.assertIn("key", self.text("load-state"))
                self.set("max_tokens", 8)
                self.by("prompt").send_keys("Hm" + Keys.ENTER)
                self.wait(lambda: self.by("key-dialog").is_displayed())
                self.by("key").send_keys("the-secret" + Keys.ENTER)
                self.wait(lambda: self.text("load-state") == "idle")
                self.by("prompt").send_keys(Keys.ENTER)  # the message has come back
                self.wait(lambda: self.all(".message.assistant .note") and "tokens" in self.all(".message.assistant .note")[0].text)
                self.assertNotIn("the-secret", self.driver.execute_script("return JSON.stringify(localStorage)"))
            finally:
                self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    support.main()
