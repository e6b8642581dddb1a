"""Keys of venturi serve: the machine is shared by their weights; no priority that a client sets beats another key."""
import concurrent.futures
import contextlib
import tempfile
import time
import unittest
from pathlib import Path

import support
from server_test import MODEL, PROMPT, Server
from support import venturi


@contextlib.contextmanager
def serving(lines, *flags):
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(lines)
        server = Server("--api-key-file", keys, "--max-wait", 3600, *flags)
        try:
            yield server
        finally:
            assert server.stop() == 0


def answer(server, key, tokens, **more):
    """When it was whole."""
    status, got, _ = server.ask("POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": tokens, "ignore_eos": True, **more}, {"x-api-key": key})
    assert status == 200, got
    return time.monotonic()


class Weights(unittest.TestCase):
    def test_tokens_are_shared_out_by_weight(self):
        with serving("light\nheavy weight=3\n", "--streams", 4) as server, concurrent.futures.ThreadPoolExecutor(120) as pool:
            ends = {key: [pool.submit(answer, server, key, 60) for _ in range(60)] for key in ("light", "heavy")}
            ends = {key: sorted(one.result() for one in list_) for key, list_ in ends.items()}
            done = sum(end <= ends["heavy"][-1] for end in ends["light"])
            # A third of 60, and what is under way.
            self.assertGreaterEqual(done, 14)
            self.assertLessEqual(done, 27)


class Priorities(unittest.TestCase):
    def ended_before(self, keys, **more):
        """How many of a flood by the key `a` end between the request of `b` and its end."""
        with serving(keys, "--streams", 2) as server, concurrent.futures.ThreadPoolExecutor(60) as pool:
            flood = [pool.submit(answer, server, "a", 100, **more) for _ in range(50)]
            while server.metric("vllm:num_requests_waiting", {"x-api-key": "a"}) < 40:
                time.sleep(0.01)
            sent = time.monotonic()
            end = answer(server, "b", 100)
            return sum(sent < one.result() < end for one in flood)

    def test_a_flood_gains_nothing_by_priority(self):
        self.assertLessEqual(self.ended_before("a\nb\n"), 6)
        self.assertLessEqual(self.ended_before("a\nb\n", priority=100), 6)

    def test_but_what_the_file_allows(self):
        self.assertGreaterEqual(self.ended_before("a priority=7\nb\n", priority=100), 30)

    def test_within_a_key_priority_orders(self):
        with serving("a\n", "--streams", 1) as server, concurrent.futures.ThreadPoolExecutor(60) as pool:
            flood = [pool.submit(answer, server, "a", 100) for _ in range(30)]
            while server.metric("vllm:num_requests_waiting", {"x-api-key": "a"}) < 25:
                time.sleep(0.01)
            sent = time.monotonic()
            end = answer(server, "a", 100, priority=1)
            self.assertLessEqual(sum(sent < one.result() < end for one in flood), 2)


class Files(unittest.TestCase):
    def test_bad_lines_are_refused_without_showing_a_key(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = Path(folder) / "keys"
            for line, says in (("secret-1 weight=0", "weight"), ("secret-1 priority=high", "priority"), ("secret-1 secret-2", "weight=W and priority=P")):
                keys.write_text(f"# ours\nsecret-0\n{line}\n")
                for command in (("serve", "-m", MODEL, "--port", 0), ("loadtest", "http://127.0.0.1:9")):
                    refused = venturi(*command, "--api-key-file", keys)
                    self.assertEqual(refused.code, 2, refused)
                    self.assertIn(f"{keys}, line 3: ", refused.err)
                    self.assertIn(says, refused.err)
                    self.assertNotIn("secret", refused.err + refused.out)


if __name__ == "__main__":
    support.main()
