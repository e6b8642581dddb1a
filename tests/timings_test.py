"""A response's own breakdown: the parts follow each other and add up, within the time that the client saw."""
import json
import time
import unittest

import support
from server_test import PROMPT, Serving

PARTS = ["tokenize", "queue", "prefill", "decode", "finish"]
ASK = {"venturi": {"timings": True}}
CHAT = {"messages": [{"role": "user", "content": PROMPT}]}


class Timings(Serving):
    def check(self, timings, wall, least_decode=0.0):
        self.assertEqual(set(timings), {f"{part}_seconds" for part in [*PARTS, "total", "detokenize", "write"]})
        for name, value in timings.items():
            self.assertGreaterEqual(value, 0, name)
        total = timings["total_seconds"]
        self.assertAlmostEqual(sum(timings[f"{part}_seconds"] for part in PARTS), total, delta=1e-6)
        self.assertLessEqual(total, wall)
        for part in ("tokenize", "prefill", "detokenize"):
            self.assertGreater(timings[f"{part}_seconds"], 0, part)
        self.assertLessEqual(timings["detokenize_seconds"], total)
        self.assertGreater(timings["decode_seconds"], least_decode)

    def timed(self, path, body, stream):
        """(what a whole response is, or the objects of a stream; seconds)"""
        begin = time.monotonic()
        _, answer, _ = self.server.ask("POST", path, {**body, "stream": stream}, {"Content-Type": "application/json"})
        wall = time.monotonic() - begin
        if not stream:
            return answer, wall
        lines = [line.removeprefix("data: ") for line in answer.splitlines() if not line.startswith("event:")]
        return [json.loads(line) for line in lines if line and line != "[DONE]"], wall

    def test_every_api(self):
        kinds = {
            "/v1/chat/completions": ({**CHAT, "max_tokens": 20}, lambda chunks: [c for c in chunks if c["choices"][0]["finish_reason"]]),
            "/v1/completions": ({"prompt": PROMPT, "max_tokens": 20}, lambda chunks: [c for c in chunks if c["choices"][0]["finish_reason"]]),
            "/v1/messages": ({**CHAT, "max_tokens": 20}, lambda events: [e for e in events if e["type"] == "message_delta"]),
            "/v1/responses": ({"input": PROMPT, "max_output_tokens": 20},
                              lambda events: [e["response"] for e in events if e["type"] in ("response.completed", "response.incomplete")]),
            "/api/chat": ({**CHAT, "options": {"num_predict": 20}}, lambda lines: [line for line in lines if line["done"]]),
        }
        for path, (body, ends) in kinds.items():
            body = {"seed": 1, **body}
            for stream in (False, True):
                with self.subTest(path=path, stream=stream):
                    answer, wall = self.timed(path, {**body, **ASK}, stream)
                    if stream:
                        last = ends(answer)
                        self.assertEqual(len(last), 1)
                        others = [o for o in answer if "venturi" in json.dumps(o) and o is not last[0] and o.get("response") is not last[0]]
                        self.assertFalse([o for o in others if "total_seconds" in json.dumps(o)])
                        self.check(last[0]["venturi"]["timings"], wall)
                        self.assertGreater(last[0]["venturi"]["timings"]["write_seconds"], 0)
                    else:
                        self.check(answer["venturi"]["timings"], wall)
                    unasked, _ = self.timed(path, body, stream)
                    self.assertNotIn("total_seconds", json.dumps(unasked))

    def test_several_answers_tell_it_once(self):
        chunks, wall = self.timed("/v1/completions", {"prompt": PROMPT, "max_tokens": 12, "n": 5, **ASK}, True)
        told = [c for c in chunks if "venturi" in c]
        self.assertEqual(len(told), 1)
        self.check(told[0]["venturi"]["timings"], wall)

    def test_many_prompts_are_one_response(self):
        # Twice as many as there are places.
        chunks, wall = self.timed("/v1/completions", {"prompt": [PROMPT] * 8, "max_tokens": 60, "ignore_eos": True, **ASK}, True)
        told = [c for c in chunks if "venturi" in c]
        self.check(told[0]["venturi"]["timings"], wall, least_decode=wall / 4)

    def test_what_is_no_wish_is_refused(self):
        for bad in (True, {"timings": "yes"}, []):
            answer = self.post("/v1/completions", {"prompt": PROMPT, "venturi": bad}, status=400)
            self.assertEqual(answer["error"]["param"], "venturi")

    def test_ollamas_durations(self):
        answer, wall = self.timed("/api/chat", {**CHAT, "options": {"num_predict": 30}, **ASK}, False)
        timings = answer["venturi"]["timings"]
        self.assertAlmostEqual(answer["prompt_eval_duration"] / 1e9, timings["prefill_seconds"], places=6)
        self.assertAlmostEqual(answer["eval_duration"] / 1e9, timings["decode_seconds"], places=6)
        self.assertLessEqual(answer["total_duration"] / 1e9, wall)


del Serving

if __name__ == "__main__":
    support.main()
