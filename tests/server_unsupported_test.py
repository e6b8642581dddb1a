"""Fields that venturi serve knows and cannot follow: a 400 that names them, in every API, streamed or not. Values that
ask for nothing, and fields that nobody knows, are taken."""
import json
import unittest

import support
from server_test import Server

USER = {"role": "user", "content": "Hm"}
TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


def chat(**more):
    return {"messages": [USER], "max_tokens": 2, **more}


def after_call(result):
    """Anthropic's messages with a tool's result."""
    return [USER, {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", **result}]}]


def function(**more):
    return [{"type": "function", "function": {**TOOL, **more}}]


CHAT, RESPONSES, MESSAGES, OLLAMA, GENERATE = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate"
BASE = {CHAT: chat(), RESPONSES: {"input": "Hm", "max_output_tokens": 2}, MESSAGES: chat(), "/v1/completions": {"prompt": "Hm", "max_tokens": 2},
        OLLAMA: {"messages": [USER], "options": {"num_predict": 2}, "stream": False}, GENERATE: {"prompt": "Hm", "options": {"num_predict": 2}, "stream": False}}
GRAMMAR = 'root ::= "yes" | "no"'

# Route, what is asked for, the field that is named.
REFUSED = [
    (CHAT, {"store": True}, "store"),
    (CHAT, {"reasoning_effort": "high"}, "reasoning_effort"),
    (CHAT, {"reasoning_effort": "minimal"}, "reasoning_effort"),
    (CHAT, {"verbosity": "low"}, "verbosity"),
    (CHAT, {"grammar": GRAMMAR, "response_format": {"type": "json_object"}}, "response_format"),
    (CHAT, {"grammar": GRAMMAR, "response_format": "json"}, "response_format"),
    (CHAT, {"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    (CHAT, {"audio": {"voice": "ash", "format": "mp3"}}, "audio"),
    (CHAT, {"modalities": ["text", "audio"]}, "modalities"),
    (CHAT, {"prediction": {"type": "content", "content": "Hm"}}, "prediction"),
    (CHAT, {"functions": [TOOL]}, "functions"),
    (CHAT, {"messages": [USER, {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}}]}, "messages[1].function_call"),
    (CHAT, {"messages": [{**USER, "images": ["AA=="]}]}, "messages[0].images"),
    (CHAT, {"messages": [USER, {"role": "assistant", "content": "a", "audio": {"id": "audio_1"}}]}, "messages[1].audio"),
    (CHAT, {"tools": function(strict="yes")}, "tools"),
    (CHAT, {"tools": function(strict=True, parameters={"type": "object", "properties": {"a": {"not": {}}}})}, "tools"),
    ("/v1/completions", {"grammar": GRAMMAR, "response_format": {"type": "json_object"}}, "response_format"),
    ("/v1/completions", {"suffix": "end"}, "suffix"),
    ("/v1/completions", {"best_of": 3}, "best_of"),
    (RESPONSES, {"store": True}, "store"),
    (RESPONSES, {"include": ["message.output_text.logprobs"]}, "include"),
    (RESPONSES, {"include": ["reasoning.encrypted_content", "file_search_call.results"]}, "include"),
    (RESPONSES, {"max_tool_calls": 3}, "max_tool_calls"),
    (RESPONSES, {"reasoning": {"effort": "low"}}, "reasoning.effort"),
    (RESPONSES, {"reasoning": {"summary": "auto"}}, "reasoning.summary"),
    (RESPONSES, {"reasoning": "low"}, "reasoning"),
    (RESPONSES, {"text": {"verbosity": "high"}}, "text.verbosity"),
    (RESPONSES, {"grammar": GRAMMAR, "text": {"format": {"type": "json_object"}}}, "text.format"),
    (RESPONSES, {"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    (RESPONSES, {"background": True}, "background"),
    (RESPONSES, {"top_logprobs": 3}, "top_logprobs"),
    (RESPONSES, {"tools": [{"type": "function", **TOOL, "strict": 1}]}, "tools"),
    (MESSAGES, {"messages": after_call({"content": [IMAGE]})}, "messages[2].content[0].content"),
    (MESSAGES, {"messages": after_call({"content": [{"type": "text", "text": "a"}, IMAGE]})}, "messages[2].content[0].content"),
    (MESSAGES, {"messages": after_call({"content": 3})}, "messages[2].content[0].content"),
    (MESSAGES, {"messages": after_call({"content": "a", "is_error": "yes"})}, "messages[2].content[0].is_error"),
    (MESSAGES, {"messages": [{"role": "user", "content": [IMAGE]}]}, "messages"),
    (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    (MESSAGES, {"output_config": {"effort": "low"}}, "output_config"),
    (MESSAGES, {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management"),
    ("/v1/messages/count_tokens", {"messages": after_call({"content": [IMAGE]})}, "messages[2].content[0].content"),
    (OLLAMA, {"messages": [{**USER, "images": ["AA=="]}]}, "messages[0].images"),
    (OLLAMA, {"options": {"mirostat": 3}}, "options.mirostat"),
    (OLLAMA, {"options": {"tfs_z": 0.5}}, "options.tfs_z"),
    (OLLAMA, {"options": {"penalize_newline": False}}, "options.penalize_newline"),
    (OLLAMA, {"options": {"top_p": 3}}, "options.top_p"),
    (OLLAMA, {"options": {"num_ctx": 1 << 20}}, "options.num_ctx"),
    (OLLAMA, {"options": []}, "options"),
    (OLLAMA, {"think": True}, "think"),
    (OLLAMA, {"think": "high"}, "think"),
    (OLLAMA, {"logprobs": True}, "logprobs"),
    (GENERATE, {"images": ["AA=="]}, "images"),
    (GENERATE, {"suffix": "end"}, "suffix"),
    (GENERATE, {"context": [1, 2]}, "context"),
    (GENERATE, {"options": {"mirostat": 2, "mirostat_tau": -1}}, "options.mirostat_tau"),
]

# Of other servers, or of other APIs of this one.
for name, value in (("guided_choice", ["a", "b"]), ("guided_regex", "a+"), ("guided_grammar", GRAMMAR), ("structured_outputs", {"choice": ["a"]}), ("stop_token_ids", [5]),
                    ("min_tokens", 3), ("n_predict", 3), ("prompt_logprobs", 0), ("bad_words", ["a"]), ("repeat_last_n", 64), ("skip_special_tokens", False),
                    ("add_generation_prompt", False), ("dry_multiplier", 0.8), ("chat_template", "x")):
    REFUSED += [(path, {name: value}, name) for path in (CHAT, "/v1/completions", RESPONSES, MESSAGES)]
REFUSED += [(path, {name: {"type": "object"}, "response_format": {"type": "json_object"}}, name) for path in (CHAT, "/v1/completions") for name in ("json_schema", "guided_json")]
REFUSED += [(path, {name: {"type": "string", "format": "uri"}}, name) for path in (CHAT, "/v1/completions", RESPONSES) for name in ("json_schema", "guided_json")]
REFUSED += [("/v1/completions", {name: value}, name) for name, value in (("tools", function()), ("tool_choice", "required"), ("messages", [USER]), ("max_completion_tokens", 3), ("top_logprobs", 2))]
REFUSED += [(RESPONSES, {name: value}, name) for name, value in (("max_tokens", 3), ("max_completion_tokens", 3), ("response_format", {"type": "json_object"}), ("messages", [USER]))]
REFUSED += [(MESSAGES, {name: value}, name) for name, value in (("response_format", {"type": "json_object"}), ("grammar", GRAMMAR), ("stop", ["a"]), ("n", 2), ("logprobs", True),
                                                                ("logit_bias", {"5": 1}), ("frequency_penalty", 1), ("repetition_penalty", 1.1), ("mirostat", 2))]
REFUSED += [(path, {name: value}, name) for path in (OLLAMA, GENERATE) for name, value in (("response_format", {"type": "json_object"}), ("grammar", GRAMMAR), ("stop", "a"), ("keep_alive", [1]))]

TAKEN = [
    *((path, {"guided_choice": [], "stop_token_ids": [], "min_tokens": 0, "repeat_last_n": -1, "prompt_logprobs": None, "skip_special_tokens": True, "n_predict": -1}) for path in (CHAT, RESPONSES, MESSAGES)),
    (MESSAGES, {"seed": 3, "n": 1, "frequency_penalty": 0, "stop": []}),
    ("/v1/completions", {"tools": [], "tool_choice": "none", "best_of": 1}),
    (CHAT, {"store": False, "reasoning_effort": None, "verbosity": None, "audio": None, "functions": [], "function_call": "none", "modalities": ["text"]}),
    (CHAT, {"store": None, "reasoning_effort": "none", "verbosity": "medium", "metadata": {"a": "b"}, "service_tier": "auto", "user": "u"}),
    (CHAT, {"grammar": GRAMMAR, "response_format": {"type": "text"}}),
    (CHAT, {"grammar": "", "response_format": {"type": "json_object"}, "max_tokens": 40}),
    (CHAT, {"tools": function(strict=True), "max_tokens": 8}),
    (CHAT, {"tools": function(strict=False)}),
    (CHAT, {"messages": [{**USER, "images": []}, {"role": "assistant", "content": "a", "function_call": None, "audio": None}, USER]}),
    (CHAT, {"frobnicate": {"deep": [1]}}),
    (RESPONSES, {"store": False, "include": [], "max_tool_calls": None, "reasoning": {}, "text": {"verbosity": "medium"}, "background": False}),
    (RESPONSES, {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": None, "summary": None}, "top_logprobs": 0}),
    (RESPONSES, {"include": None, "reasoning": None, "tools": [{"type": "function", **TOOL, "strict": True}], "frobnicate": 1}),
    (MESSAGES, {"messages": after_call({"content": [{"type": "text", "text": "a"}], "is_error": False})}),
    (MESSAGES, {"messages": after_call({"content": "no such place", "is_error": True})}),
    (MESSAGES, {"messages": after_call({}), "metadata": {"user_id": "u"}, "thinking": {"type": "disabled"}, "frobnicate": 1}),
    (MESSAGES, {"tools": [{"name": "f", "input_schema": TOOL["parameters"], "strict": True}]}),
    (OLLAMA, {"messages": [{**USER, "images": []}], "think": False, "options": {"num_predict": 2, "mirostat": 0}}),
    (OLLAMA, {"options": {"num_predict": 2, "num_gpu": 1, "num_thread": 3, "main_gpu": 0, "use_mmap": True, "num_batch": 8, "num_keep": 4, "low_vram": False}}),
    (OLLAMA, {"options": {"num_predict": 2, "mirostat": 2, "mirostat_tau": 3.5, "mirostat_eta": 0.2}}),
    (OLLAMA, {"options": {"num_predict": 2, "frobnicate": 3, "tfs_z": 1, "penalize_newline": True}, "keep_alive": "5m"}),
    (GENERATE, {"options": {"num_predict": 2, "mirostat": 1}, "context": [], "images": [], "suffix": ""}),
]


class Unsupported(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--streams", 2, "--alias", "tiny", context=1024)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def post(self, path, body):
        return self.server.ask("POST", path, body, {"Content-Type": "application/json"})[:2]

    def test_what_asks_for_what_is_not_done_is_refused_by_name(self):
        for path, more, param in REFUSED:
            for stream in {more.get("stream", False), True}:
                with self.subTest(path=path, more=more, stream=stream):
                    status, answer = self.post(path, {**BASE.get(path, {}), **more, "stream": stream})
                    self.assertEqual(status, 400, answer)
                    error = answer["error"]
                    if path.startswith("/api"):
                        self.assertEqual(error.split(" ")[0], param)
                    elif "messages" in path and "param" not in error:
                        self.assertEqual(error["message"].split(" ")[0], param)
                    else:
                        self.assertEqual(error["param"], param, error)

    def test_what_asks_for_nothing_is_taken(self):
        for path, more in TAKEN:
            with self.subTest(path=path, more=more):
                status, answer = self.post(path, {**BASE[path], **more})
                self.assertEqual(status, 200, answer)

    def test_a_tools_error_is_told_to_the_model(self):
        count = lambda **result: self.post("/v1/messages/count_tokens", {"messages": after_call(result)})[1]["input_tokens"]
        self.assertEqual(count(content="no such place", is_error=True), count(content="Error: no such place"))
        self.assertGreater(count(content="no such place", is_error=True), count(content="no such place", is_error=False))

    def test_mirostat_is_followed(self):
        ask = {**BASE[GENERATE], "prompt": "Once"}
        text = lambda **options: self.post(GENERATE, {**ask, "options": {"num_predict": 40, "seed": 3, "temperature": 1, "top_k": 0, "top_p": 1, **options}})[1]["response"]
        self.assertEqual(text(mirostat=2), text(mirostat=2, mirostat_tau=5, mirostat_eta=0.1))
        self.assertNotEqual(text(mirostat=2, mirostat_tau=0.5), text())

    def test_what_others_call_otherwise_is_followed(self):
        schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
        for name in ("json_schema", "guided_json"):
            text = self.post(CHAT, chat(max_tokens=60, **{name: schema}))[1]["choices"][0]["message"]["content"]
            self.assertIn(json.loads(text), ({"a": 1}, {"a": 2}))
            text = self.post("/v1/completions", {"prompt": "Hm", "max_tokens": 60, name: schema})[1]["choices"][0]["text"]
            self.assertIn(json.loads(text), ({"a": 1}, {"a": 2}))
        text = lambda **more: self.post(CHAT, chat(max_tokens=40, seed=3, **more) | {"max_tokens": 40})[1]["choices"][0]["message"]["content"]
        self.assertEqual(text(temperature=0, repeat_penalty=1.5), text(temperature=0, repetition_penalty=1.5))
        self.assertNotEqual(text(temperature=0, repeat_penalty=1.5), text(temperature=0))
        self.assertNotEqual(text(mirostat=2, mirostat_tau=0.5), text())
        said = lambda **more: self.post(MESSAGES, chat(**more) | {"max_tokens": 20})[1]["content"]
        self.assertEqual(said(seed=3), said(seed=3))
        self.assertNotEqual(said(seed=3), said(seed=4))

    def test_a_strict_function_is_called_by_its_schema(self):
        # Made to call by a bias on nothing but the first token: what follows is free but for the schema.
        brace = self.post("/tokenize", {"content": "a{"})[1]["tokens"][-1]
        ask = chat(max_tokens=100, tools=function(strict=True), temperature=1)
        called = 0
        for seed in range(8):
            status, answer = self.post(CHAT, {**ask, "seed": seed, "logit_bias": {str(brace): 100}})
            self.assertEqual(status, 200, answer)
            message = answer["choices"][0]["message"]
            if not message.get("tool_calls"):
                continue
            called += 1
            call = message["tool_calls"][0]
            self.assertIn(json.loads(call["function"]["arguments"]), ({"a": 1}, {"a": 2}))
        self.assertGreater(called, 0)


if __name__ == "__main__":
    support.main()
