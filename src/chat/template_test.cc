// Marks of taint, limits, errors.
#include "chat/template.h"

#include <gtest/gtest.h>

#include "chat/render.h"

namespace venturi::chat {
namespace {

using Json = nlohmann::ordered_json;

// The text with what came from outside in «», or the error.
std::string marked(std::string_view source, const Json& values, const RenderLimits& limits = {}) {
  const auto parsed = Template::parse(source);
  if (!parsed) return "parse: " + parsed.error().message;
  std::vector<Variable> variables;
  for (const auto& item : values.items()) variables.push_back({item.key(), &item.value()});
  const auto segments = parsed->render(variables, std::tm{}, limits);
  if (!segments) return "render: " + segments.error().message;
  std::string out;
  for (const Segment& s : *segments) out += s.is_template_text ? s.text : "«" + s.text + "»";
  return out;
}

TEST(Taint, SurvivesWhateverIsDoneToAString) {
  const Json v = {{"x", "ab Cd"}, {"l", {"p", "q"}}, {"d", {{"k", "v"}}}, {"n", 5}};
  const std::pair<const char*, const char*> cases[] = {
      {"a{{ x }}b", "a«ab Cd»b"},
      {"{{ 'T' + x + 'T' }}", "T«ab Cd»T"},
      {"{{ 'T' ~ x ~ n }}", "T«ab Cd»5"},
      {"{{ x|upper }}{{ x.lower() }}", "«AB CDab cd»"},
      {"{{ x|capitalize }}-{{ x|title }}-{{ x.swapcase() }}", "«Ab cd»-«Ab Cd»-«AB cD»"},
      {"{{ ('T' ~ x)[0:3] }}", "T«ab»"},
      {"{{ ('T' ~ x)[::-1] }}", "«dC ba»T"},
      {"{{ ('T' ~ x)|reverse }}", "«dC ba»T"},
      {"{{ ('  T' ~ x ~ '  ')|trim }}", "T«ab Cd»"},
      {"{{ x|replace('ab', 'T') }}", "T« Cd»"},
      {"{{ 'TaT'|replace('a', x) }}", "T«ab Cd»T"},
      {"{{ l|join('-') }}", "«p»-«q»"},
      {"{{ ['T', x]|join(d.k) }}", "T«vab Cd»"},
      {"{{ x|tojson }}", "\"«ab Cd»\""},
      {"{{ d|tojson }}", "{\"«k»\": \"«v»\"}"},
      {"{{ d }}", "{'«k»': '«v»'}"},
      {"{{ x.split(' ')|join('+') }}", "«ab»+«Cd»"},
      {"{{ 'T%sT' % x }}", "T«ab Cd»T"},
      {"{{ '%7s|' % x }}", "  «ab Cd»|"},
      {"{{ 'T{}T'.format(x) }}", "T«ab Cd»T"},
      {"{{ '%c%c' % (60, n) }}", "«<\x05»"},
      {"{% set y %}T{{ x }}{% endset %}{{ y }}", "T«ab Cd»"},
      {"{% macro m(a) %}T{{ a }}{% endmacro %}{{ m(x)|upper }}", "T«AB CD»"},
      {"{% filter upper %}t{{ x }}{% endfilter %}", "T«AB CD»"},
      {"{% for c in x %}{{ c }}.{% endfor %}", "«a».«b».« ».«C».«d»."},
      {"{{ x|list|join }}", "«ab Cd»"},
      {"{{ x|first }}{{ x|last }}{{ x[1] }}", "«adb»"},
      {"{{ x|indent(2, true) }}", "  «ab Cd»"},
      {"{{ x * 2 }}", "«ab Cdab Cd»"},
      {"{{ x|center(7) }}", " «ab Cd» "},
      {"{{ x|truncate(4, true, '.', 0) }}", "«ab »."},
      {"{{ x|e }}{{ x|safe }}{{ x|string }}", "«ab Cdab Cdab Cd»"},
      {"{{ x|urlencode }}", "«ab%20Cd»"},
      {"{{ x.partition(' ')|join('|') }}", "«ab»| |«Cd»"},
      {"{{ x|default('T') }}{{ nope|default(x) }}", "«ab Cdab Cd»"},
      {"{% for k, v in d|items %}{{ k }}={{ v }}{% endfor %}", "«k»=«v»"},
      {"{{ (l|sort(reverse=true))|join }}{{ l|map('upper')|join }}", "«qpPQ»"},
      {"{% set ns = namespace(a=x) %}{% set ns.a = ns.a ~ 'T' %}{{ ns.a }}", "«ab Cd»T"},
      {"{{ n }}{{ x|length }}{{ x == 'ab Cd' }}", "55True"},
  };
  for (const auto& [source, expected] : cases) {
    EXPECT_EQ(marked(source, v), expected) << source;
  }
}

TEST(Taint, KnownRolesAreTemplateTextAndOthersAreNot) {
  const auto parsed = Template::parse(
      "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ m.x.role }}{% endfor %}");
  ASSERT_TRUE(parsed.ok());
  Conversation c;
  c.messages = {{{"role", "user"}, {"content", "system"}, {"x", {{"role", "user"}}}},
                {{"role", "end"}, {"content", ""}, {"x", Json::object()}}};
  const auto segments = render_chat(*parsed, c);
  ASSERT_TRUE(segments.ok()) << segments.error().message;
  const std::vector<Segment> expected = {
      {"<|user|>", true}, {"systemuser", false}, {"<|", true}, {"end", false}, {"|>", true}};
  EXPECT_EQ(*segments, expected);
}

TEST(Taint, ExtraVariablesAreFromOutsideAndReplaceNothing) {
  const auto parsed = Template::parse(
      "{{ bos_token }}{{ messages|length }}{{ name }}{{ pad_token }}{{ tools is none }}");
  ASSERT_TRUE(parsed.ok());
  Conversation c;
  c.messages = Json::array();
  c.bos_token = "<s>";
  c.special_tokens = {{"pad_token", "<pad>"}};
  c.extra = {{"bos_token", "evil"}, {"messages", {1, 2}}, {"name", "n"}, {"pad_token", "evil"}};
  const auto segments = render_chat(*parsed, c);
  ASSERT_TRUE(segments.ok()) << segments.error().message;
  const std::vector<Segment> expected = {{"<s>0", true}, {"n", false}, {"<pad>True", true}};
  EXPECT_EQ(*segments, expected);
}

TEST(RenderChat, RefusesWhatIsNoConversation) {
  const auto parsed = Template::parse("x");
  ASSERT_TRUE(parsed.ok());
  Conversation c;
  EXPECT_FALSE(render_chat(*parsed, c).ok());
  c.messages = {1};
  EXPECT_FALSE(render_chat(*parsed, c).ok());
  c.messages = Json::array();
  EXPECT_TRUE(render_chat(*parsed, c).ok());
  c.extra = 3;
  EXPECT_FALSE(render_chat(*parsed, c).ok());
}

// Each of these would run for ever, or take all memory or stack, without the limits.
TEST(Limits, EndEveryRunawayTemplate) {
  const RenderLimits limits{.steps = 1'000'000, .live_bytes = 64 << 20, .output_bytes = 1 << 20};
  const Json v = {{"x", std::string(1000, 'x')}};
  const char* const sources[] = {
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s "
      "%}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor %}{{ ns.l|tojson }}",
      "{% set a = namespace(l=[1]) %}{% set b = namespace(l=[1]) %}{% for i in range(90) %}{% set "
      "a.l = [a.l, a.l] %}"
      "{% set b.l = [b.l, b.l] %}{% endfor %}{{ a.l == b.l }}",
      "{{ 'x' * 99999999999 }}",
      "{{ [1] * 99999999999 }}",
      "{{ '%99999999s' % 'x' }}",
      "{{ 'x'.center(99999999999) }}",
      "{{ (x * 1000)|replace('', x) }}",
      "{{ range(100000)|join(x * 1000) }}",
      "{% for i in range(99999) %}{{ x }}{% endfor %}",
      "{% for i in range(99999) %}{% set y = (x * 1000)|upper %}{% endfor %}",
      "{{ range(0, 9223372036854775807)|list }}",
      "{{ 3 ** 99999999999 }}",
      "{% set ns = namespace(m=0) %}{% macro a() %}{% macro b() %}{% endmacro %}{% set ns.m = b "
      "%}{% endmacro %}"
      "{% for i in range(99999) %}{% for j in range(9) %}{{ a() }}{% endfor %}{% endfor %}",
  };
  for (const char* source : sources) {
    const std::string got = marked(source, v, limits);
    EXPECT_TRUE(got.starts_with("render: ")) << source << "\n" << got.substr(0, 200);
  }
}

TEST(Limits, CyclesOfNamespacesAndMacrosAreLetGo) {  // the leak checker of the asan build watches
  EXPECT_EQ(
      marked("{% set ns = namespace() %}{% set ns.me = [ns] %}{% set ns.two = namespace(up=ns) %}"
             "{% macro m() %}{% endmacro %}{% set ns.m = m %}{{ ns.me == ns.me }}{{ ns.me }}",
             Json::object()),
      "True[<namespace>]");
}

TEST(Limits, NestingOfTheSourceIsBounded) {
  const auto repeated = [](std::string_view s, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += s;
    return out;
  };
  const std::string sources[] = {
      "{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}",
      "{{ " + repeated("[", 5000) + repeated("]", 5000) + " }}",
      "{{ " + repeated("-", 5000) + "1 }}",
      "{{ " + repeated("not ", 5000) + "1 }}",
      "{{ 1" + repeated(" + 1", 5000) + " }}",
      "{{ 1" + repeated(" if 1 else 1", 5000) + " }}",
      "{{ a" + repeated(".b", 5000) + " }}",
      "{{ a" + repeated("|upper", 5000) + " }}",
      "{{ a" + repeated("()", 5000) + " }}",
      repeated("{% if 1 %}", 5000) + repeated("{% endif %}", 5000),
      "{% if 1 %}" + repeated("{% elif 1 %}", 5000) + "{% endif %}",
      repeated("{% for x in y %}", 5000),
      "{% for " + repeated("(", 5000) + "a" + repeated(")", 5000) + " in y %}{% endfor %}",
  };
  for (const std::string& source : sources) {
    const auto parsed = Template::parse(source);
    ASSERT_FALSE(parsed.ok()) << source.substr(0, 40);
    EXPECT_NE(parsed.error().message.find("line 1, column"), std::string::npos)
        << parsed.error().message;
  }
  const std::string flat =
      "{{ 'a'" + repeated(" ~ 'a'", 5000) + " }}{{ 1" + repeated(" or 1", 5000) + " }}";
  EXPECT_TRUE(Template::parse(flat).ok());
  const std::string too_long(Template::kMaxBytes + 1, 'x');
  EXPECT_FALSE(Template::parse(too_long).ok());
}

TEST(Limits, DeepJsonIsRefused) {
  Json deep = 1;
  for (int i = 0; i < 200; ++i) deep = Json::array({std::move(deep)});
  EXPECT_TRUE(marked("{{ x }}", {{"x", deep}}).starts_with("render: "));
}

TEST(Errors, NamePlaceAndExpectation) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\n  {{ 1 + }}", "parse: template line 2, column 10: a value expected, '}}' found"},
      {"{% if x %}\n\nhi",
       "parse: template line 1, column 4: this 'if' is not closed: 'endif' expected before the "
       "end"},
      {"é{{ a b }}", "parse: template line 1, column 7: '}}' or an operator expected, 'b' found"},
      {"{% for x y %}{% endfor %}", "parse: template line 1, column 10: 'in' expected, 'y' found"},
      {"{{ 'abc }}", "parse: template line 1, column 4: this string is not closed: ' expected"},
      {"{{ (1] }}", "parse: template line 1, column 6: ')' expected, ']' found"},
      {"{{ l[] }}", "parse: template line 1, column 6: an index expected, ']' found"},
      {"{% include 'x' %}",
       "parse: template line 1, column 4: 'include' needs other templates, which a chat template "
       "has not"},
      {"x\n{{ nope.deep }}",
       "render: template line 2, column 8: 'nope' is undefined, so it has no 'deep'"},
      {"{{ 1\n + 'a' }}",
       "render: template line 2, column 2: '+' cannot join a integer and a string"},
      {"{{ x|nofilter }}", "render: template line 1, column 6: there is no filter 'nofilter'"},
      {"{{ raise_exception('no system role') }}",
       "render: the chat template refuses the conversation: no system role"},
      {"{{ [].append(1) }}",
       "render: template line 1, column 13: a template may not change a list: make a new one, or "
       "use a namespace"},
  };
  for (const auto& [source, expected] : cases)
    EXPECT_EQ(marked(source, Json::object()), expected) << source;
}

TEST(Time, IsTheMomentGiven) {
  std::tm now{};
  now.tm_year = 124;
  now.tm_mon = 6;
  now.tm_mday = 26;
  const auto parsed = Template::parse("{{ strftime_now('%d %b %Y') }}{{ strftime_now('%Q%') }}");
  ASSERT_TRUE(parsed.ok());
  const auto segments = parsed->render({}, now);
  ASSERT_TRUE(segments.ok());
  EXPECT_EQ(join_segments(*segments), "26 Jul 2024%Q%");
}

}  // namespace
}  // namespace venturi::chat
