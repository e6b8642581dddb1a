"""venturi chat, over a terminal of its own and over pipes."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time
from pathlib import Path

import support
from support import MODEL, VENTURI, ProgramTest, clean_environment

PLAIN = "User: {}\nAssistant:"  # what a model without a template is given
CTRL_A, CTRL_C, CTRL_D, CTRL_K, UP = "\x01", "\x03", "\x04", "\x0b", "\x1b[A"


class Terminal:
    """The program on a pseudo-terminal: what a person sees, and their keys."""

    def __init__(self, home, *arguments, env=None):
        self.seen = ""
        environment = clean_environment({"HOME": str(home), "TERM": "xterm", "LC_ALL": "C", **(env or {})})
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # Wide, so that no line is wrapped.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 4000, 0, 0))
            os.execve(VENTURI, [str(VENTURI), "chat", *map(str, arguments)], environment)

    def keys(self, text):
        os.write(self.fd, text if isinstance(text, bytes) else text.encode())

    def until(self, pattern, seconds=60):
        """What was printed up to the first match of a pattern, which is taken."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            if not self._more(deadline - time.monotonic()):
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
        before, self.seen = self.seen[:match.start()], self.seen[match.end():]
        return before

    def line(self, text):
        """Types a line at the prompt; returns the answer."""
        self.until("> $")
        self.keys(text + "\r")
        self.until(r"\r\n")
        return self.until(r"\r\n(?=\[\d+ tokens)").replace("\r\n", "\n")

    def status(self, seconds=30):
        """The exit status, once the program has ended by itself."""
        deadline = time.monotonic() + seconds
        while self._more(deadline - time.monotonic()):
            pass
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise AssertionError(f"still running: {self.seen!r}")

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def _more(self, seconds):
        if seconds <= 0 or not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            got = os.read(self.fd, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", got.decode(errors="replace"))
        return bool(got)


class Chat(ProgramTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)

    def terminal(self, *arguments, **more):
        terminal = Terminal(self.home, "-m", MODEL, "--temp", 0, *arguments, **more)
        self.addCleanup(terminal.close)
        return terminal

    def piped(self, text, *arguments, code=0):
        """The answers to lines of standard input, which is bytes."""
        result = subprocess.run([VENTURI, "chat", "-m", MODEL, "--temp", "0", *map(str, arguments)], input=text,
                                capture_output=True, timeout=300, env=clean_environment({"HOME": str(self.home)}))
        self.assertEqual(result.returncode, code, result)
        return result.stdout.decode(), result.stderr.decode()

    def answer_to(self, prompt, n):
        """What the model says after a text, by another way than chat."""
        out = self.succeeds("run", "-m", MODEL, "-q", "-p", prompt, "-n", n, "--temp", 0).out
        self.assertTrue(out.startswith(prompt), out)
        return out[len(prompt):-1]

    def template(self, text):
        path = self.home / "template.jinja"
        path.write_text(text)
        return ["--chat-template", path]


class OnATerminal(Chat):
    def test_a_turn_goes_through_the_template(self):
        t = self.terminal("-n", 12)
        self.assertEqual(t.line("It was late."), self.answer_to(PLAIN.format("It was late."), 12))

    def test_the_second_turn_knows_the_first(self):
        t = self.terminal("-n", 12)
        first = t.line("It was late.")
        both = PLAIN.format("It was late.") + first + "\n" + PLAIN.format("And then?")
        self.assertEqual(t.line("And then?"), self.answer_to(both, 12))

    def test_clear_forgets(self):
        t = self.terminal("-n", 12)
        first = t.line("It was late.")
        t.until("> $")
        t.keys("/clear\r")
        t.until("/clear\r\n")
        self.assertEqual(t.line("It was late."), first)

    def test_keys_edit_the_line(self):
        t = self.terminal("-n", 8)
        # Typed as "X was late.zz", mended to "It was late."
        typed = "X was late.zz" + "\x7f\x7f" + CTRL_A + "\x1b[C\x7fIt"
        self.assertEqual(t.line(typed), self.answer_to(PLAIN.format("It was late."), 8))
        t.until("> $")
        t.keys("gone" + CTRL_A + CTRL_K + "/clear\r")
        t.until("/clear\r\n")
        self.assertEqual(t.line(UP + UP), self.answer_to(PLAIN.format("It was late."), 8))

    def test_history_lasts_from_one_session_to_the_next(self):
        said = "The sea was grey — naïve."
        for _ in range(2):
            t = self.terminal("-n", 8)
            answer = t.line(said)
            t.line("It was late.")
            t.until("> $")
            t.keys("/quit\r")
            self.assertEqual(t.status(), 0)
        for ups in (3, 4):
            t = self.terminal("-n", 8)
            self.assertEqual(t.line(UP * ups), answer)

    def test_letters_beyond_ascii_whatever_the_locale(self):
        for locale in ("C", "C.UTF-8", "no_SUCH.locale", ""):
            with self.subTest(locale=locale):
                t = self.terminal("-n", 8, env={"LC_ALL": locale})
                self.assertEqual(t.line("Café — naïve 你好 😀"),
                                 self.answer_to(PLAIN.format("Café — naïve 你好 😀"), 8))
                t.close()
                t.pid, t.fd = 0, os.open(os.devnull, os.O_RDONLY)

    def test_bytes_that_are_no_text_do_no_harm(self):
        t = self.terminal("-n", 4)
        t.until("> $")
        t.keys(b"a\xff\xfe\xc3(\xe2\x82 b\r")
        t.until(r"\[4 tokens")
        t.line("It was late.")

    def test_ctrl_d_leaves_and_ctrl_c_gives_up_the_line(self):
        t = self.terminal("-n", 8)
        t.until("> $")
        t.keys("half a line")
        t.until("half a line")
        t.keys(CTRL_C)
        self.assertEqual(t.line("It was late."), self.answer_to(PLAIN.format("It was late."), 8))
        t.until("> $")
        t.keys(CTRL_C)
        t.until("> $")
        t.keys(CTRL_D)
        self.assertEqual(t.status(), 0)

    def test_ctrl_c_stops_an_answer_and_the_talk_goes_on(self):
        t = self.terminal("-n", 100000, "-c", 400000, "--logit-bias", "2-100")
        t.until("> $")
        t.keys("It was late.\r")
        t.until(r"late\.\r\n[^\r]{20}")
        t.keys(CTRL_C)
        t.until(r"\[\d+ tokens at [^\n]*stopped")
        t.until("> $")
        t.keys("/quit\r")
        self.assertEqual(t.status(), 0)

    def test_commands_are_told_from_messages(self):
        t = self.terminal("-n", 4)
        t.until("> $")
        t.keys("/nonsense\r")
        t.until("/nonsense is no command.*/clear")
        t.until("> $")
        t.keys("/help\r")
        t.until("/quit")
        t.line("/usr/bin is a folder")

    def test_a_full_context_is_refused_and_the_talk_goes_on(self):
        t = self.terminal("-n", 16, "-c", 96)
        for _ in range(8):
            t.until("> $")
            t.keys("It was late in the evening.\r")
            t.until(r"evening\.\r\n")
            t.until(r"\r\n(?=\[|> )")
            if "full" in t.seen or not t.seen.startswith("["):
                break
        else:
            self.fail("never full")
        t.until("> $")
        t.keys("/clear\r")
        t.line("It was late in the evening.")

    def test_a_line_longer_than_the_context_is_refused_whole(self):
        for flag in ("refuse", "shift"):
            with self.subTest(on_full=flag):
                t = self.terminal("-n", 8, "-c", 128, "--on-full", flag)
                first = t.line("It was late.")
                t.until("> $")
                t.keys("word " * 300 + "\r")
                t.until("takes|the context is full")
                # What was said before is still known.
                both = PLAIN.format("It was late.") + first + "\n" + PLAIN.format("And then?")
                self.assertEqual(t.line("And then?"), self.answer_to(both, 8))
                t.close()
                t.pid, t.fd = 0, os.open(os.devnull, os.O_RDONLY)


class OverPipes(Chat):
    def test_lines_in_answers_out(self):
        out, err = self.piped(b"It was late.\nAnd then?\n", "-n", 12)
        first = self.answer_to(PLAIN.format("It was late."), 12)
        both = PLAIN.format("It was late.") + first + "\n" + PLAIN.format("And then?")
        self.assertEqual(out, first + "\n" + self.answer_to(both, 12) + "\n")
        self.assertEqual(err, "")
        self.assertFalse((self.home / ".venturi_history").exists())

    def test_a_last_line_without_an_end_counts(self):
        self.assertEqual(self.piped(b"It was late.", "-n", 8)[0], self.piped(b"It was late.\n", "-n", 8)[0])

    def test_system_message_and_template_of_ones_own(self):
        flags = self.template("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>")
        out, _ = self.piped(b"Hello\n", "-n", 8, "--system", "Be brief.", *flags)
        self.assertEqual(out, self.answer_to("<system>Be brief.<user>Hello<answer>", 8) + "\n")

    def test_a_template_may_refuse(self):
        flags = self.template("{{ raise_exception('no system message please') }}")
        out, err = self.piped(b"Hello\n", "-n", 8, *flags, code=2)
        self.assertIn("no system message please", err)
        self.assertEqual(out, "")

    def test_a_broken_template_is_refused_before_anything_is_said(self):
        _, err = self.piped(b"Hello\n", *self.template("{% for %}"), code=1)
        self.assertIn("template", err)

    def test_a_full_context_ends_a_script_or_shifts(self):
        lines = b"It was late in the evening.\n" * 8
        _, err = self.piped(lines, "-n", 16, "-c", 96, code=2)
        self.assertIn("--on-full shift", err)
        enough = re.search(r"-c (\d+)", err).group(1)  # for one turn more than there was room for
        out, _ = self.piped(lines, "-n", 16, "-c", 96, code=2)
        more, _ = self.piped(lines, "-n", 16, "-c", enough, code=2)
        self.assertGreater(more.count("\n"), out.count("\n"))
        out, err = self.piped(lines, "-n", 16, "-c", 96, "--on-full", "shift")
        self.assertEqual(err, "")
        # The last answer is that of a talk which began where the shift left it.
        self.assertGreater(len(out), 8)

    def test_a_shift_leaves_the_newest_turns(self):
        lines = [f"Line {i} is about the sea." for i in range(6)]
        out, _ = self.piped("\n".join(lines).encode(), "-n", 6, "-c", 80, "--on-full", "shift", "--logit-bias", "13-100")
        answers = out.split("\n")[:-1]
        for kept in range(6):  # some number of turns was kept
            text = "".join(PLAIN.format(q) + a + "\n" for q, a in zip(lines[5 - kept:5], answers[5 - kept:5]))
            last = self.succeeds("run", "-m", MODEL, "-q", "-p", text + PLAIN.format(lines[5]), "-n", 6, "--temp", 0,
                                 "--logit-bias", "13-100").out
            if last.endswith("Assistant:" + answers[5] + "\n"):
                self.assertLess(kept, 5)
                return
        self.fail(out)

    def test_invalid_utf8_and_zero_bytes_are_text(self):
        out, _ = self.piped(b"a\xff\xfe\xc3( \x00 b\n", "-n", 8)
        self.assertEqual(out.count("\n"), 1)

    def test_control_tokens_of_a_person_stay_text(self):
        with_token, _ = self.piped(b"Hello</s><s>\n", "-n", 8)
        self.assertEqual(with_token, self.answer_to(PLAIN.format("Hello</s><s>"), 8) + "\n")

    def test_one_megabyte_in_a_line_is_refused_soon(self):
        begin = time.monotonic()
        _, err = self.piped(b"It was late. " * 80000 + b"\n", "-n", 8, code=2)
        self.assertIn("this message", err)
        self.assertLess(time.monotonic() - begin, 30)

    def test_an_interrupt_ends_a_script(self):
        process = subprocess.Popen([VENTURI, "chat", "-m", MODEL, "-n", "8"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
        process.stdin.write(b"It was late.\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            self.assertNotEqual(process.wait(10), 0)
        finally:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    support.main()
