"""Calls of functions through venturi serve: OpenAI's, Anthropic's and Ollama's spelling. The model is too small
to call by itself, so it is made to."""
import json
import unittest

import support
from server_test import Server

try:
    import jsonschema
except ImportError:
    jsonschema = None

WEATHER = {"type": "object", "properties": {"place": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
           "required": ["place", "days"], "additionalProperties": False}
CLOCK = {"type": "object", "properties": {"zone": {"$ref": "#/$defs/zone"}}, "required": ["zone"], "$defs": {"zone": {"enum": ["utc", "cet"]}}}
SCHEMAS = {"get_weather": WEATHER, "clock": CLOCK}
TOOLS = [{"type": "function", "function": {"name": name, "description": "Says it.", "parameters": schema}} for name, schema in SCHEMAS.items()]
ASK = {"messages": [{"role": "user", "content": "How is it there?"}], "max_tokens": 200, "tools": TOOLS}


class Tools(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--streams", 4, "--alias", "tiny", context=1024)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def post(self, path, body, status=200):
        got, answer, _ = self.server.ask("POST", path, body, {"Content-Type": "application/json"})
        self.assertEqual(got, status, answer)
        return answer

    def chat(self, **more):
        return self.post("/v1/chat/completions", {**ASK, **more})["choices"][0]

    def check(self, name, arguments):
        if jsonschema:
            jsonschema.validate(arguments, SCHEMAS[name])
        self.assertIsInstance(arguments, dict)

    def test_a_named_function_is_called(self):
        for name in SCHEMAS:
            for seed in range(6):
                choice = self.chat(seed=seed, tool_choice={"type": "function", "function": {"name": name}})
                self.assertEqual(choice["finish_reason"], "tool_calls")
                self.assertIsNone(choice["message"]["content"])
                (call,) = choice["message"]["tool_calls"]
                self.assertEqual((call["type"], call["function"]["name"]), ("function", name))
                self.check(name, json.loads(call["function"]["arguments"]))

    def test_required_calls_some_function(self):
        called = set()
        for seed in range(12):
            choice = self.chat(seed=seed, tool_choice="required", parallel_tool_calls=False, temperature=2)
            (call,) = choice["message"]["tool_calls"]
            called.add(call["function"]["name"])
            self.check(call["function"]["name"], json.loads(call["function"]["arguments"]))
        self.assertEqual(called, set(SCHEMAS))
        # Several may come; all that came whole satisfy their schemas, and ids differ.
        choice = self.chat(seed=1, tool_choice="required", temperature=3, logit_bias={"2": -100})
        calls = choice["message"]["tool_calls"]
        self.assertEqual(len({c["id"] for c in calls}), len(calls))
        for call in calls if choice["finish_reason"] == "tool_calls" else calls[:-1]:
            self.check(call["function"]["name"], json.loads(call["function"]["arguments"]))

    def test_a_stream_says_what_the_whole_says(self):
        ask = {**ASK, "tool_choice": "required", "seed": 5, "n": 2}
        whole = self.post("/v1/chat/completions", ask)["choices"]
        events = self.server.events("/v1/chat/completions", {**ask, "stream": True})
        self.assertEqual(events[-1], "[DONE]")
        calls = [{}, {}]
        finishes = {}
        for choice in (json.loads(e)["choices"][0] for e in events[:-1]):
            for delta in choice["delta"].get("tool_calls", []):
                known = calls[choice["index"]]
                if delta["index"] not in known:
                    self.assertTrue(delta["id"].startswith("call_"))
                    self.assertEqual(delta["type"], "function")
                    known[delta["index"]] = [delta["function"]["name"], ""]
                known[delta["index"]][1] += delta["function"]["arguments"]
            self.assertFalse(choice["delta"].get("content"))
            if choice["finish_reason"]:
                finishes[choice["index"]] = choice["finish_reason"]
        for i, one in enumerate(whole):
            self.assertEqual([calls[i][k] for k in sorted(calls[i])],
                             [[c["function"]["name"], c["function"]["arguments"]] for c in one["message"]["tool_calls"]])
            self.assertEqual(finishes[i], one["finish_reason"])

    # Many calls, cut off somewhere.
    CUT = {"tool_choice": "required", "temperature": 2}

    def test_calls_that_are_cut_off_are_no_text(self):
        more_than_one = 0
        for seed in range(30):
            choice = self.chat(**self.CUT, seed=seed, max_tokens=40 + 3 * seed)
            self.assertIsNone(choice["message"]["content"], choice)
            calls = choice["message"].get("tool_calls", [])
            more_than_one += len(calls) > 1
            for call in calls if choice["finish_reason"] != "length" else calls[:-1]:
                self.check(call["function"]["name"], json.loads(call["function"]["arguments"]))
        self.assertGreater(more_than_one, 3)

    def test_responses_mark_what_is_cut_off_alone(self):
        tools = [{"type": "function", "name": n, "parameters": s} for n, s in SCHEMAS.items()]
        statuses = set()
        for seed in range(30):
            ask = {"input": ASK["messages"][0]["content"], "tools": tools, **self.CUT, "seed": seed, "max_output_tokens": 40 + 3 * seed}
            whole = self.post("/v1/responses", ask)
            for item in whole["output"]:
                self.assertEqual(item["type"], "function_call", whole["output"])
                try:
                    self.check(item["name"], json.loads(item["arguments"]))
                    self.assertEqual(item["status"], "completed")
                except json.JSONDecodeError:
                    self.assertEqual(item["status"], "incomplete")
                    self.assertEqual(whole["status"], "incomplete")
                    self.assertIs(item, whole["output"][-1])
                statuses.add(item["status"])
            text = self.post("/v1/responses", {**ask, "stream": True})
            events = [json.loads(line[len("data: "):]) for line in text.splitlines() if line.startswith("data: ")]
            kept = [[(i["name"], i["arguments"], i["status"]) for i in r["output"]] for r in (whole, events[-1]["response"])]
            self.assertEqual(kept[0], kept[1])
            done = [(e["item"]["name"], e["item"]["arguments"], e["item"]["status"]) for e in events if e["type"] == "response.output_item.done"]
            self.assertEqual(done, kept[0])
        self.assertEqual(statuses, {"completed", "incomplete"})

    def test_a_call_without_its_arguments_is_none(self):
        schema = {"type": "object", "properties": {"terms": {"type": "array", "items": {"type": "integer"}, "minItems": 90}}, "required": ["terms"], "additionalProperties": False}
        ask = {"messages": ASK["messages"], "max_tokens": 60, "temperature": 0, "tools": [{"name": "add", "input_schema": schema}], "tool_choice": {"type": "any"}}
        answer = self.post("/v1/messages", ask)
        self.assertEqual((answer["content"], answer["stop_reason"]), ([{"type": "text", "text": ""}], "max_tokens"))
        ask = {"messages": ASK["messages"], "options": {"num_predict": 60, "temperature": 0}, "tool_choice": "required",
               "tools": [{"type": "function", "function": {"name": "add", "parameters": schema}}]}
        whole = self.post("/api/chat", {**ask, "stream": False})
        self.assertEqual((whole["done_reason"], whole["message"]), ("length", {"role": "assistant", "content": ""}))
        self.assertNotIn("tool_calls", self.post("/api/chat", ask))

    def test_auto_and_none_leave_text_alone(self):
        plain = self.chat(seed=3, max_tokens=20, tools=[])
        none = self.chat(seed=3, max_tokens=20, tool_choice="none")
        self.assertEqual(none["message"], plain["message"])
        auto = self.chat(seed=3, max_tokens=20)
        self.assertTrue(auto["message"]["content"])
        self.assertNotIn("tool_calls", auto["message"])
        # Offered beside a schema: either, and here the model is led to one by its grammar alone.
        schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
        for seed in range(6):
            choice = self.chat(seed=seed, temperature=2, parallel_tool_calls=False, response_format={
                "type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
            if choice["finish_reason"] == "tool_calls":
                call = choice["message"]["tool_calls"][0]["function"]
                self.check(call["name"], json.loads(call["arguments"]))
            else:
                self.assertIsInstance(json.loads(choice["message"]["content"])["ok"], bool)

    def test_a_call_the_model_writes_is_parsed(self):
        # Arguments first: not how calls are forced, so what comes so was written under the request's own grammar.
        text = '{"arguments": {"zone": "utc"}, "name": "clock"}'
        own = []
        for seed in range(40):
            choice = self.chat(seed=seed, temperature=2, grammar="root ::= " + json.dumps(text), parallel_tool_calls=False)
            self.assertEqual(choice["finish_reason"], "tool_calls")
            own += [c["function"] for c in choice["message"]["tool_calls"] if c["function"]["arguments"] == '{"zone": "utc"}']
            if own:
                break
        self.assertEqual(own[0]["name"], "clock")
        # Of a function that is not offered, it is text.
        none = self.chat(grammar="root ::= " + json.dumps(text), tools=TOOLS, tool_choice="none")
        self.assertEqual((none["message"]["content"], none["finish_reason"]), (text, "stop"))

    def test_results_go_back_in(self):
        talk = [*ASK["messages"], {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "utc"}'}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "noon"}]
        self.assertTrue(self.chat(messages=talk, max_tokens=8)["message"]["content"])
        told = self.post("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "How is it there?"}]})["input_tokens"]
        more = self.post("/v1/messages/count_tokens", {"messages": [
            {"role": "user", "content": "How is it there?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "clock", "input": {"zone": "utc"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "noon"}]}]}]})["input_tokens"]
        self.assertGreater(more, told + 8)

    def test_what_is_wrong_is_named(self):
        for body, param in (({"tools": [{"type": "web_search"}]}, "tools"), ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
                            ({"tools": TOOLS + TOOLS}, "tools"), ({"tool_choice": "maybe"}, "tool_choice"), ({"tools": {}}, "tools"),
                            ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 3}}]}, "tools"),
                            ({"tools": [], "tool_choice": "required"}, "tool_choice"),
                            ({"tool_choice": {"type": "function", "function": {"name": "none_such"}}}, "tool_choice"),
                            ({"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "a", "parameters": {"not": {}}}}]}, "tools"),
                            ({"messages": [{"role": "assistant", "tool_calls": [{"id": 1}]}]}, "messages[0].tool_calls[0]")):
            for stream in (False, True):
                with self.subTest(body=body, stream=stream):
                    error = self.post("/v1/chat/completions", {**ASK, **body, "stream": stream}, 400)["error"]
                    self.assertEqual(error["param"], param, error)

    def test_anthropic(self):
        tools = [{"name": n, "description": "Says it.", "input_schema": s} for n, s in SCHEMAS.items()]
        ask = {"messages": ASK["messages"], "max_tokens": 200, "tools": tools, "temperature": 0}
        for choice in ({"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "clock"}):
            answer = self.post("/v1/messages", {**ask, "tool_choice": choice})
            (block,) = answer["content"]
            self.assertEqual((block["type"], answer["stop_reason"]), ("tool_use", "tool_use"))
            self.check(block["name"], block["input"])
        for wrong in ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {"tool_choice": {"type": "tool"}}, {"tool_choice": "any"}):
            self.assertEqual(self.post("/v1/messages", {**ask, **wrong}, 400)["error"]["type"], "invalid_request_error")

    def test_ollama(self):
        ask = {"messages": ASK["messages"], "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "options": {"seed": 4}}
        whole = self.post("/api/chat", {**ask, "stream": False})
        (call,) = whole["message"]["tool_calls"]
        self.check(call["function"]["name"], call["function"]["arguments"])
        self.assertEqual(whole["done_reason"], "stop")
        lines = [json.loads(line) for line in self.post("/api/chat", ask).splitlines()]
        self.assertEqual([c for line in lines for c in line["message"].get("tool_calls", [])], [call])
        again = self.post("/api/chat", {"messages": [*ASK["messages"], whole["message"], {"role": "tool", "tool_name": "clock", "content": "noon"}],
                                        "stream": False, "options": {"num_predict": 4}})
        self.assertTrue(again["done"])


if __name__ == "__main__":
    support.main()
