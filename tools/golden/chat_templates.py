"""Writes the golden files of the chat template tests with python3-jinja2.

    python3 tools/golden/chat_templates.py

The environment is the one Hugging Face renders chat templates with: the immutable sandbox,
trim_blocks, lstrip_blocks, loop controls, a `generation` tag, a `tojson` that does not escape HTML,
`raise_exception` and `strftime_now` (here of a fixed moment).

Reads  tests/data/chat/*.jinja
Writes tests/data/chat/conversations.json   every template over every conversation
       tests/data/chat/expressions.json     small templates, one construct or two each
An expected value of null means that jinja2 reports an error.
"""

import datetime
import itertools
import json
import pathlib
import random

import jinja2
import jinja2.ext
import jinja2.sandbox

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "chat"
NOW = datetime.datetime(2025, 3, 7, 14, 5, 9)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @staticmethod
    def _body(caller):
        return caller()


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENV = environment()


def render(source, variables):
    try:
        return ENV.from_string(source).render(**variables)
    except Exception:  # whatever it is, Venturi must report an error too
        return None


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.\nIn \"SI\" units.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "City, country: <any> & 'all'"},
                "days": {"type": "integer"},
                "hours": {"type": "array", "items": {"type": "number"}},
                "unit": {"type": ["string", "null"], "enum": ["°C", "°F"]},
            },
            "required": ["place"],
        },
        "return": {"type": "object"},
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    },
}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, id):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


U, A, S, T = "user", "assistant", "system", "tool"
CONVERSATIONS = {
    "one": [say(U, "Hello")],
    "system": [say(S, "Be brief."), say(U, "Hello")],
    "turns": [say(U, "Hi"), say(A, "Hello!"), say(U, "  How are you?\n"), say(A, " Fine. "), say(U, "Good")],
    "system_turns": [say(S, " You are Ada. \n"), say(U, "Hi"), say(A, "Hello"), say(U, "Bye")],
    "unicode": [say(S, "Réponds en français."), say(U, "¿Qué 日本語 🙂 \u0000 \u2028 ∑?"), say(A, "ﬁn \u00a0"), say(U, "Ω")],
    "empty": [say(S, ""), say(U, ""), say(A, ""), say(U, "")],
    "special": [
        say(S, "<|im_end|>"),
        say(U, "<|im_start|>system\n</s>[INST]<|eot_id|><end_of_turn>"),
        say(A, "<think>\nhm\n</think>\n\nNo {{ 1 + 1 }} {% raw %}"),
        say(U, "<｜User｜> \"quoted\" 'single' \\ back\tslash"),
    ],
    "think": [
        say(U, "2+2?"),
        say(A, "<think>\nadd\n</think>\n\n4"),
        say(U, "sure?"),
        say(A, "Yes", reasoning_content="\ncheck\n"),
    ],
    "tool_turns": [
        say(S, "Use tools."),
        say(U, "Weather in Zürich?"),
        say(A, None, tool_calls=[call("get_weather", {"place": "Zürich", "days": 2, "hours": [1.5, 3.0, 1e22]}, "abcdefghi")]),
        say(T, '{"celsius": -3.5}', tool_call_id="abcdefghi", name="get_weather"),
        say(A, "It is cold."),
        say(U, "Thanks"),
    ],
    "two_calls": [
        say(U, "Both"),
        say(A, "Let me see.", tool_calls=[call("get_weather", {"place": "Rome"}, "000000001"), call("now", {}, "000000002")]),
        say(T, "sunny", tool_call_id="000000001"),
        say(T, "noon", tool_call_id="000000002"),
    ],
    "parts": [say(S, [{"type": "text", "text": "S"}]), say(U, [{"type": "image"}, {"type": "text", "text": " Look "}])],
    "wrong_order": [say(A, "I begin"), say(A, "and go on")],
    "long": [say((U, A)[i % 2], f"turn {i} " + "word " * i) for i in range(25)],
    "none": [],
}
CONTEXTS = [
    ("plain", {"add_generation_prompt": False}),
    ("prompt", {"add_generation_prompt": True}),
    ("tools", {"add_generation_prompt": True, "tools": [WEATHER, CLOCK]}),
    ("extra", {
        "add_generation_prompt": True,
        "tools": [CLOCK],
        "enable_thinking": False,
        "thinking": True,
        "tools_in_user_message": False,
        "builtin_tools": ["get_weather", "code_interpreter"],
        "date_string": "01 Jan 2030",
        "documents": [{"title": "naïve", "text": "A text\nof two lines, which is longer than forty characters"}],
    }),
]


def write_conversations():
    results = {}
    for path in sorted(DATA.glob("*.jinja")):
        source = path.read_text()
        expected = {}
        for (name, messages), (context, variables) in itertools.product(CONVERSATIONS.items(), CONTEXTS):
            values = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"}
            expected[f"{name}/{context}"] = render(source, {**values, **variables, "messages": messages})
        results[path.name] = expected
    write("conversations.json", {"conversations": CONVERSATIONS, "contexts": dict(CONTEXTS), "results": results})


VARIABLES = {
    "i": 7, "n": -3, "z": 0, "f": 2.5, "t": True, "no": False, "none_value": None,
    "s": "Hello World", "e": "", "u": "Ünï çödé ß 日本", "w": "  pad\t\n", "q": "it's \"q\" <b>&amp;",
    "lines": "a\nb\n\nc", "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "ll": [[1, 2], [3]], "el": [],
    "d": {"b": 1, "a": [1, 2], "items": "x"}, "users": [
        {"name": "bo", "age": 30, "on": True}, {"name": "Al", "age": 4, "on": False}, {"name": "cy", "age": 30, "on": True},
    ],
}


def write(name, value):
    (DATA / name).write_text(json.dumps(value, ensure_ascii=True, indent=0, sort_keys=False) + "\n")


def expressions():
    """Hand-written templates for each construct, then random expressions."""
    yield from HAND_WRITTEN
    rng = random.Random(20260101)
    made = set()
    while len(made) < 300:
        expression = random_expression(rng, 3)
        if expression not in made:
            made.add(expression)
            yield "{{ " + expression + " }}"


NUMBERS = ["i", "n", "z", "f", "t", "1", "2", "0", "-1", "3.25", "10", "l|sum", "s|length", "l[0]", "users[1].age"]
STRINGS = ["s", "e", "u", "w", "q", "'a'", "'x y'", "'%s'", "lines", "ls[0]", "users[0].name", "s[1:4]", "u[::-1]", "u[2]"]
LISTS = ["l", "ls", "el", "ll", "[1, 2, 3]", "('a', 'b')", "range(4)|list", "s|list", "users|map(attribute='name')|list", "l[::-1]", "d.keys()|list"]
TEXT_FILTERS = ["upper", "lower", "trim", "title", "capitalize", "reverse", "length", "string", "tojson", "replace('l', 'L')",
                "indent(2)", "default('D')", "first", "last", "list", "int", "float", "escape", "wordcount", "truncate(6)",
                "center(14)", "urlencode", "join('-')", "tojson(ensure_ascii=true)", "safe"]
TEXT_METHODS = ["strip()", "lstrip()", "rstrip('d')", "split()", "split(' ')", "split('l', 1)", "rsplit('l', 1)", "upper()", "lower()",
                "title()", "capitalize()", "startswith('H')", "endswith('d')", "replace('o', '0', 1)", "find('o')", "rfind('o')",
                "count('l')", "isdigit()", "isalpha()", "isupper()", "zfill(14)", "swapcase()", "splitlines()", "partition(' ')",
                "removeprefix('He')", "removesuffix('ld')", "ljust(13, '.')", "center(15, '*')", "join(['a', 'b'])", "isspace()"]
LIST_FILTERS = ["length", "first", "last", "sort", "sort(reverse=true)", "join(', ')", "list", "reverse|list", "unique|list", "min", "max",
                "sum", "tojson", "tojson(indent=2)", "map('string')|list", "map('upper')|join", "select|list", "reject('none')|list",
                "select('number')|list", "batch(2)|list", "batch(2, 0)|list", "slice(2)|list", "string", "select('in', [1, 'a'])|list", "count"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "iterable", "sequence", "boolean", "true", "false", "integer",
         "float", "odd", "even", "divisibleby(2)", "divisibleby 3", "eq(7)", "equalto 7", "ne 7", "lt 3", "gt(2)", "ge 2", "in [7, 'a']",
         "in s", "upper", "lower", "callable", "sameas none", "not none", "not string"]


def random_expression(rng, depth):
    """A string of an expression of any type; most of them are well typed."""
    kind = rng.choice(["number", "text", "list", "bool"])
    return {"number": number, "text": text, "list": sequence, "bool": boolean}[kind](rng, depth)


def number(rng, depth):
    if depth == 0 or rng.random() < 0.25:
        return rng.choice(NUMBERS)
    form = rng.randrange(6)
    a, b = number(rng, depth - 1), number(rng, depth - 1)
    if form == 0:
        return f"({a} {rng.choice(['+', '-', '*', '//', '%', '/'])} {b})"
    if form == 1:
        return f"{a} {rng.choice(['+', '-', '*'])} {b}"
    if form == 2:
        return f"({a})|{rng.choice(['abs', 'int', 'float', 'round', 'round(1)', 'string|length', 'round(1, method=' + repr('floor') + ')'])}"
    if form == 3:
        return f"-({a})"
    if form == 4:
        return f"({a} if {boolean(rng, depth - 1)} else {b})"
    return f"({text(rng, depth - 1)})|length"


def text(rng, depth):
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(STRINGS)
    form = rng.randrange(7)
    a = text(rng, depth - 1)
    if form == 0:
        return f"({a} ~ {random_expression(rng, depth - 1)})"
    if form == 1:
        return f"{a} + {text(rng, depth - 1)}"
    if form in (2, 3):
        return f"({a})|{rng.choice(TEXT_FILTERS)}"
    if form == 4:
        return f"({a}).{rng.choice(TEXT_METHODS)}"
    if form == 5:
        bounds = [rng.choice(["", "0", "1", "2", "-1", "-3", "5", "99"]) for _ in range(3)]
        if bounds[2] == "0":
            bounds[2] = "-2"
        return f"({a})[{':'.join(bounds)}]"
    return f"({a}) * {rng.choice(['2', '0', '-1', '3'])}"


def sequence(rng, depth):
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(LISTS)
    form = rng.randrange(5)
    a = sequence(rng, depth - 1)
    if form == 0:
        return f"({a}) + ({sequence(rng, depth - 1)})"
    if form in (1, 2):
        return f"({a})|{rng.choice(LIST_FILTERS)}"
    if form == 3:
        bounds = [rng.choice(["", "0", "1", "-1", "-2", "9"]) for _ in range(2)]
        return f"({a})[{':'.join(bounds)}]"
    return f"[{random_expression(rng, depth - 1)}, {random_expression(rng, depth - 1)}]"


def boolean(rng, depth):
    if depth == 0 or rng.random() < 0.15:
        return rng.choice(["t", "no", "true", "none_value", "missing", "el"])
    form = rng.randrange(6)
    if form == 0:
        return f"{number(rng, depth - 1)} {rng.choice(['<', '<=', '>', '>=', '==', '!='])} {number(rng, depth - 1)}"
    if form == 1:
        return f"{random_expression(rng, depth - 1)} {rng.choice(['in', 'not in'])} {sequence(rng, depth - 1)}"
    if form == 2:
        return f"({random_expression(rng, depth - 1)}) is {rng.choice(TESTS)}"
    if form == 3:
        return f"not {boolean(rng, depth - 1)}"
    if form == 4:
        return f"({boolean(rng, depth - 1)} {rng.choice(['and', 'or'])} {boolean(rng, depth - 1)})"
    return f"{text(rng, depth - 1)} {rng.choice(['==', '!=', '<', 'in', 'not in'])} {text(rng, depth - 1)}"


HAND_WRITTEN = (DATA / "constructs.txt").read_text().split("\n====\n")


def write_expressions():
    cases = [{"template": source, "expected": render(source, VARIABLES)} for source in expressions()]
    write("expressions.json", {"variables": VARIABLES, "cases": cases})


if __name__ == "__main__":
    write_conversations()
    write_expressions()
