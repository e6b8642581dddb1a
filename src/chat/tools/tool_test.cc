// Calls of functions: what each format's parser makes of texts, however they are cut, and that what
// its grammar admits is what its parser reads.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "chat/render.h"
#include "chat/tools/tool_grammar.h"
#include "chat/tools/tool_parser.h"
#include "grammar/matcher.h"
#include "tool_format_registry.inc"

namespace venturi::chat {
namespace {

using Json = nlohmann::ordered_json;

// "text|f(arguments)|…": what a client puts together.
std::string told(const ToolEvents& events) {
  std::string out;
  for (const ToolEvent& e : events) {
    if (e.kind == ToolEvent::Kind::kCall)
      out += "|" + e.text + "(";
    else if (e.kind == ToolEvent::Kind::kCallEnd)
      out += ")|";
    else
      out += e.text;
  }
  return out;
}

const std::vector<std::string> kNames = {"f", "get_weather"};

std::string whole(const ToolFormat& format, std::string_view text, bool inside = false) {
  ToolParser parser(format, kNames, inside);
  ToolEvents events;
  parser.push(text, events);
  parser.finish(events);
  return told(events);
}

// By every cut into three, and byte by byte, as by the whole.
std::string parsed(const ToolFormat& format, const std::string& text, bool inside = false) {
  const std::string expected = whole(format, text, inside);
  for (size_t a = 0; a <= text.size(); ++a)
    for (size_t b = a; b <= text.size(); b += 1 + text.size() / 40) {
      ToolParser parser(format, kNames, inside);
      ToolEvents events;
      for (const std::string& part : {text.substr(0, a), text.substr(a, b - a), text.substr(b)})
        parser.push(part, events);
      parser.finish(events);
      EXPECT_EQ(told(events), expected) << text << " cut at " << a << ", " << b;
    }
  ToolParser parser(format, kNames, inside);
  std::string bytes;
  for (const char c : text) {
    ToolEvents events;
    parser.push({&c, 1}, events);
    bytes += told(events);
  }
  ToolEvents events;
  parser.finish(events);
  EXPECT_EQ(bytes + told(events), expected) << text;
  return expected;
}

std::string demanded(const ToolFormat& format, std::string_view text, bool inside) {
  ToolParser parser(format, kNames, inside);
  ToolEvents events;
  parser.push(text, events);
  parser.finish(events, true);
  std::string out = told(events);
  for (const ToolEvent& e : events)
    if (!e.whole) out += "cut";
  return out;
}

// Of calls that were demanded, wherever they are cut off, nothing is text, and the last one alone is not whole.
TEST(ToolParser, CutCallsAreNoText) {
  for (const ToolFormat* format : kAll_ToolFormat) {
    const bool inside = !tool_opening(*format).empty();
    const std::string first = fmt::format(R"({{"{}": "f", "{}": {{"a": 1}}}})", format->name_key, format->arguments_key);
    std::string text = (inside ? "" : format->begin) + (format->list ? "[" : "") + first;
    const size_t one = text.size();
    const std::string between = format->list ? ", " : format->end.empty() ? "; " : format->end + "\n" + format->begin;
    if (!format->single) text += between + first;
    const std::string call = R"(|f({"a": 1})|)";
    for (size_t n = 0; n <= text.size(); ++n) {
      SCOPED_TRACE(format->name + (": " + text.substr(0, n)));
      std::string got = demanded(*format, std::string_view(text).substr(0, n), inside);
      if (n >= one) {
        ASSERT_TRUE(got.starts_with(call)) << got;
        got.erase(0, call.size());
      }
      if (got.empty() || got == call) continue;
      ASSERT_TRUE(got.ends_with(")|cut")) << got;
      got.erase(got.size() - 5);
      EXPECT_TRUE(call.starts_with(got)) << got;
      EXPECT_LT(got.size(), call.size() - 2);
    }
    EXPECT_EQ(demanded(*format, text, inside), format->single ? call : call + call) << format->name;
  }
}

TEST(ToolParser, Hermes) {
  const ToolFormat& h = tool_format_hermes;
  EXPECT_EQ(parsed(h, "Hello there.\n"), "Hello there.\n");
  EXPECT_EQ(parsed(h, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"),
            "|f({\"a\": 1})|");
  EXPECT_EQ(parsed(h,
                   "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": "
                   "{}}\n</tool_call>\n<tool_call>{\"arguments\": {\"x\": "
                   "\"}{\\\"\"}, \"name\": \"get_weather\"}</tool_call>\n"),
            "Let me see.|f({})||get_weather({\"x\": \"}{\\\"\"})|");
  // Functions that nobody offered are the client's to answer.
  EXPECT_EQ(parsed(h, "<tool_call>{\"name\": \"other\"}</tool_call>"), "|other({})|");
  EXPECT_EQ(
      parsed(h, "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 2}\"}</tool_call>"),
      "|f({\"a\": 2})|");
  EXPECT_EQ(parsed(h, "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call> and so"),
            "|f({})| and so");
  // What is no call stays the text that it is.
  for (const char* text :
       {"<tool_call>\nnonsense</tool_call>", "a <tool_cal", "<<tool_call", "<tool_call>",
        "<tool_call>\n{\"name\": 3}", "<tool_call>{\"who\": 1}</tool_call>",
        "<tool_call></tool_call>", "<tool_call>{\"name\": \"f"})
    EXPECT_EQ(parsed(h, text), text);
  // Cut off by the length: what came of the arguments is passed on.
  EXPECT_EQ(parsed(h, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1, 2"),
            "|f({\"a\": [1, 2)|");
  EXPECT_EQ(parsed(h, "{\"name\": \"f\", \"arguments\": {\"a\": 1}}", true), "|f({\"a\": 1})|");
  EXPECT_EQ(parsed(h, "<<tool_call>{\"name\": \"f\"}</tool_call>"), "<|f({})|");
}

TEST(ToolParser, Lists) {
  for (const ToolFormat* format : {&tool_format_mistral, &tool_format_granite}) {
    EXPECT_EQ(parsed(*format, format->begin + "[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, "
                                              "{\"name\": \"get_weather\", \"arguments\": "
                                              "{\"p\": \"[]\"}, \"id\": \"123456789\"}]"),
              "|f({\"a\": 1})||get_weather({\"p\": \"[]\"})|");
    EXPECT_EQ(parsed(*format, "no " + format->begin.substr(0, 5) + " call"),
              "no " + format->begin.substr(0, 5) + " call");
  }
}

TEST(ToolParser, BareObjects) {
  for (const ToolFormat* format : {&tool_format_llama3, &tool_format_json}) {
    EXPECT_EQ(parsed(*format, "\n {\"name\": \"f\", \"parameters\": {\"a\": [true]}}"),
              "|f({\"a\": [true]})|");
    EXPECT_EQ(parsed(*format,
                     "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}} ; {\"name\": "
                     "\"get_weather\"}"),
              "|f({})||get_weather({})|");
    EXPECT_EQ(parsed(*format, "[{\"name\": \"f\"}, {\"name\": \"f\"}]\n"), "|f({})||f({})|");
    // An answer in JSON is none.
    for (const char* text :
         {"{\"name\": \"Ann\", \"arguments\": {}}", "{\"a\": 1}", " {\"name\": 1}", "{}", "[1, 2]",
          "{\"name\": \"f", "An {\"name\": \"f\"}"})
      EXPECT_EQ(parsed(*format, text), text);
  }
  EXPECT_EQ(parsed(tool_format_llama3, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}"),
            "|f({})|");
  EXPECT_EQ(parsed(tool_format_llama3, "<|python_tag|>print(1)"), "<|python_tag|>print(1)");
}

std::string source_of(const std::string& name) {
  std::ifstream file(VENTURI_SOURCE_DIR "/tests/data/chat/" + name + ".jinja", std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(ToolFormats, AreRecognisedByTheirTemplates) {
  for (const auto& [file, format] : {std::pair("hermes", "hermes"),
                                     {"qwen25", "hermes"},
                                     {"qwen3", "hermes"},
                                     {"llama31", "llama3"},
                                     {"mistral", "mistral"},
                                     {"granite", "granite"},
                                     {"zephyr", "json"},
                                     {"commandr", "json"}})
    EXPECT_EQ(tool_format_for(source_of(file)).name, format) << file;
  EXPECT_TRUE(takes_tools(source_of("qwen25")));
  EXPECT_FALSE(takes_tools(source_of("zephyr")));
}

// What a template makes of a call in a conversation is what its format's parser reads.
TEST(ToolFormats, ReadWhatTemplatesWrite) {
  for (const char* file : {"hermes", "qwen25", "qwen3", "llama31", "mistral", "granite"}) {
    const std::string source = source_of(file);
    const auto parsed_template = Template::parse(source);
    ASSERT_TRUE(parsed_template);
    Conversation talk;
    talk.bos_token = "<s>";
    talk.eos_token = "</s>";
    talk.add_generation_prompt = false;
    const Json arguments = {{"place", "Zürich \"a\""}, {"days", 2}};
    talk.messages = {
        {{"role", "user"}, {"content", "Weather?"}},
        {{"role", "assistant"},
         {"content", ""},
         {"tool_calls",
          Json::array({{{"id", "abcdefghi"},
                        {"type", "function"},
                        {"function", {{"name", "get_weather"}, {"arguments", arguments}}}}})}}};
    const auto rendered = render_chat(*parsed_template, talk);
    ASSERT_TRUE(rendered) << file << rendered.error().message;
    std::string text = join_segments(*rendered);
    // What the model wrote begins with its mark, or with the object.
    const ToolFormat& format = tool_format_for(source);
    text = text.substr(format.bare ? text.rfind("{\"name\"") : text.find(format.begin));
    ToolParser parser(format, kNames, false);
    ToolEvents events;
    parser.push(text, events);
    ASSERT_GE(events.size(), 3u) << file << text;
    EXPECT_EQ(events[0], (ToolEvent{ToolEvent::Kind::kCall, "get_weather"})) << file;
    EXPECT_EQ(Json::parse(events[1].text), arguments) << file;
    EXPECT_EQ(events[2].kind, ToolEvent::Kind::kCallEnd) << file;
  }
}

// Random texts of the grammar of every format are calls of the functions, and nothing besides.
TEST(ToolFormats, ParsersReadWhatGrammarsAdmit) {
  const Json tools = Json::parse(R"([
    {"function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}},
      "required": ["a"], "additionalProperties": false, "$defs": {"n": {"enum": [1, "x\"}"]}}}}},
    {"function": {"name": "get_weather"}}])");
  std::mt19937 random(5);
  for (const ToolFormat* format : kAll_ToolFormat) {
    for (const bool several : {false, true}) {
      auto grammar = tool_grammar(*format, {tools, several});
      ASSERT_TRUE(grammar) << grammar.error().message;
      auto automaton = grammar::Automaton::compile(*grammar);
      ASSERT_TRUE(automaton) << automaton.error().message;
      size_t most = 0;
      for (int round = 0; round < 60; ++round) {
        grammar::Matcher matcher(*automaton);
        grammar::Matcher::Set set = matcher.start();
        std::string text;
        for (;;) {
          std::vector<std::pair<uint8_t, grammar::Matcher::Set>> next;
          for (int byte = 0; byte < 256; ++byte)
            if (const auto to = matcher.next(set, static_cast<uint8_t>(byte));
                to != grammar::Matcher::kDead)
              next.emplace_back(byte, to);
          if (next.empty() || (matcher.accepts(set) && random() % 3 == 0)) break;
          const auto& [byte, to] = next[random() % next.size()];
          text += static_cast<char>(byte);
          set = to;
        }
        ASSERT_TRUE(matcher.accepts(set)) << text;
        ToolParser parser(*format, kNames, !tool_opening(*format).empty());
        ToolEvents events;
        parser.push(text, events);
        parser.finish(events);
        size_t calls = 0;
        for (const ToolEvent& e : events) {
          EXPECT_NE(e.kind, ToolEvent::Kind::kText) << format->name << ": " << text;
          calls += e.kind == ToolEvent::Kind::kCall;
          if (e.kind != ToolEvent::Kind::kArguments) continue;
          const Json arguments = Json::parse(e.text);
          ASSERT_TRUE(arguments.is_object());
          EXPECT_TRUE(arguments.empty() || arguments["a"] == 1 || arguments["a"] == "x\"}") << text;
        }
        EXPECT_GE(calls, 1u);
        most = std::max(most, calls);
      }
      EXPECT_EQ(most > 1, several && !format->single) << format->name;
    }
  }
}

// Where calling is free: any text, calls anywhere in it, and of strict functions those that satisfy their schemas.
TEST(ToolFormats, FreeAnswersHoldStrictSchemas) {
  const Json tools = Json::parse(R"([
    {"function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false}}},
    {"function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"place": {"not": {}}}}}}])");
  std::mt19937 random(7);
  for (const ToolFormat* format : kAll_ToolFormat) {
    SCOPED_TRACE(format->name);
    auto grammar = free_tool_grammar(*format, {tools, true, {"f"}});
    ASSERT_TRUE(grammar) << grammar.error().message;
    EXPECT_FALSE(free_tool_grammar(*format, {tools, true, {"f", "get_weather"}}));
    auto automaton = grammar::Automaton::compile(*grammar);
    ASSERT_TRUE(automaton) << automaton.error().message;
    const auto takes = [&](const std::string& text) {
      grammar::Matcher matcher(*automaton);
      grammar::Matcher::Set set = matcher.start();
      for (const char c : text)
        if (set = matcher.next(set, static_cast<uint8_t>(c)); set == grammar::Matcher::kDead) return false;
      return matcher.accepts(set);
    };
    const auto call = [&](const std::string& name, const std::string& arguments) {
      const std::string one = fmt::format(R"({{"{}": "{}", "{}": {}}})", format->name_key, name, format->arguments_key, arguments);
      return tool_opening(*format) + (format->list ? "[" + one + "]" : one);
    };
    const std::string half = format->begin.substr(0, format->begin.size() / 2);
    for (const std::string& text : {std::string(), std::string("Grüße, 世界.\n\n"), "a " + half, half + half + " b", std::string("[1, 2]"), std::string(" [a](b) {c}")})
      EXPECT_TRUE(takes(text)) << text;
    for (const std::string before : {"", "Let me see. ", "<", "[[ <|"}) {
      if (format->bare && !before.empty()) continue;  // not in the middle of a text
      EXPECT_TRUE(takes(before + half + call("f", R"({"a": 2})"))) << before;
      EXPECT_TRUE(takes(before + call("f", R"({"a": 1})"))) << before;
      EXPECT_TRUE(takes(before + call("get_weather", R"({"place": [1]})"))) << before;
      for (const char* arguments : {R"({"a": 3})", "{}", R"({"a": 1, "b": 2})", "1"}) EXPECT_FALSE(takes(before + call("f", arguments))) << before << arguments;
      EXPECT_FALSE(takes(before + call("g", "{}")));
    }
    if (format->bare) {
      for (const char* before : {" ", "\n", "[", "[ ", " [,"}) EXPECT_FALSE(takes(before + call("f", R"({"a": 3})"))) << before;
    }

    // What the parser finds in random texts, pushed towards marks and calls.
    size_t calls = 0;
    for (int round = 0; round < 400; ++round) {
      grammar::Matcher matcher(*automaton);
      grammar::Matcher::Set set = matcher.start();
      std::string text;
      const std::string wish = (format->bare || random() % 2 ? "" : "x" + half) + call(random() % 2 ? "f" : "get_weather", "{");
      while (text.size() < 400) {
        std::vector<std::pair<uint8_t, grammar::Matcher::Set>> next;
        for (int byte = 0; byte < 256; ++byte)
          if (const auto to = matcher.next(set, static_cast<uint8_t>(byte)); to != grammar::Matcher::kDead) {
            if (text.size() < wish.size() && byte == static_cast<uint8_t>(wish[text.size()]) && random() % 40) next.assign(1, {byte, to}), byte = 256;
            else next.emplace_back(byte, to);
          }
        if (next.empty() || (matcher.accepts(set) && text.size() >= wish.size() && random() % 3 == 0)) break;
        const auto& [byte, to] = next[random() % next.size()];
        text += static_cast<char>(byte);
        set = to;
      }
      if (!matcher.accepts(set)) continue;
      ToolParser parser(*format, kNames, false);
      ToolEvents events;
      parser.push(text, events);
      parser.finish(events);
      for (size_t i = 0; i < events.size(); ++i) {
        if (events[i].kind != ToolEvent::Kind::kCall || events[i].text != "f") continue;
        ++calls;
        ASSERT_EQ(events.at(i + 1).kind, ToolEvent::Kind::kArguments) << text;
        const Json arguments = Json::parse(events[i + 1].text);
        EXPECT_TRUE(arguments == Json({{"a", 1}}) || arguments == Json({{"a", 2}})) << text;
      }
    }
    EXPECT_GT(calls, 20u);
  }
}

TEST(ToolFormats, PlainMessagesForTemplatesWithoutTools) {
  const Json messages = Json::parse(R"([{"role": "user", "content": "Hm"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]},
    {"role": "tool", "tool_call_id": "1", "name": "f", "content": "seven"}])");
  const Json plain = spell_out_tools(messages, Json::parse(R"([{"function": {"name": "f"}}])"));
  ASSERT_EQ(plain.size(), 4u);
  EXPECT_EQ(plain[0]["role"], "system");
  EXPECT_NE(plain[0]["content"].get<std::string>().find(R"({"name":"f"})"), std::string::npos);
  EXPECT_EQ(plain[2],
            Json::parse(
                R"({"role": "assistant", "content": "{\"name\":\"f\",\"arguments\":{\"a\":1}}"})"));
  EXPECT_EQ(plain[3], Json::parse(R"({"role": "user", "content": "Result of f: seven"})"));
}

}  // namespace
}  // namespace venturi::chat
