#include "grammar/json_schema.h"

#include <arpa/inet.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "grammar/json_parts.h"
#include "grammar/regex.h"
#include "grammar/test_support.h"

namespace venturi::grammar {
namespace {

using Json = nlohmann::ordered_json;

Result<std::shared_ptr<const Automaton>> compiled(const char* schema) {
  return Automaton::compile(TRY(json_schema_grammar(Json::parse(schema))));
}

struct Case {
  const char* schema;
  std::vector<const char*> in, out;
};

TEST(JsonSchema, AcceptsWhatSatisfiesItAndNothingElse) {
  const Case cases[] = {
      {R"({"type":"boolean"})", {"true", "false"}, {"null", "True", "0", ""}},
      {R"({"type":["string","null"]})", {"null", "\"\"", "\"a\\n\\u00e9\\ud83d\\ude00é\""}, {"nul", "\"\n\"", "\"\\x\"", "\"\\ud83d\"", "\"a"}},
      {R"({"type":"string","minLength":2,"maxLength":3})", {"\"ab\"", "\"\\u00e9é\\n\""}, {"\"a\"", "\"abcd\"", "\"\\ud83d\\ude00\""}},
      {R"({"type":"number"})", {"0", "-1.5", "2e10", "3.25E-2"}, {"01", "+1", ".5", "1.", "NaN"}},
      {R"({"type":"integer","minimum":-3,"exclusiveMaximum":12})", {"-3", "0", "9", "11"}, {"-4", "12", "1.0", "-0", "007"}},
      {R"({"type":"number","minimum":0,"maximum":1})", {"0", "0.5", "1", "1.0", "0.999"}, {"-0.1", "1.1", "1.01", "2"}},
      {R"({"type":"number","exclusiveMinimum":-2})", {"-1.9", "-1", "0", "3.5"}, {"-2", "-2.0", "-2.1", "-3"}},
      {R"({"enum":["a",1,null,{"b":[2]}]})", {"\"a\"", "1", "null", "{\"b\":[2]}"}, {"\"b\"", "2"}},
      {R"({"type":"string","enum":["a",1]})", {"\"a\""}, {"1"}},
      {R"({"const":"x\"y"})", {"\"x\\\"y\""}, {"\"xy\""}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})", {"[1]", "[1, 2,3]"}, {"[]", "[1,2,3,4]", "[1,]", "[\"a\"]"}},
      {R"({"prefixItems":[{"const":1},{"const":2}],"items":false})", {"[]", "[1]", "[1,2]"}, {"[2]", "[1,2,3]"}},
      {R"({"prefixItems":[{"const":1},{"const":2}],"items":{"const":3},"minItems":2,"maxItems":4})", {"[1,2]", "[1,2,3]", "[1, 2, 3, 3]"}, {"[1]", "[1,2,3,3,3]", "[1,2,4]"}},
      {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{}},"required":["b"]})",
       {R"({"b":"x"})", R"({"a":1, "b":"x"})", "{\n  \"b\": \"x\",\n  \"c\": [null]\n}", R"({"a":1,"b":"","c":{}})"},
       {R"({})", R"({"a":1})", R"({"b":"x","a":1})", R"({"b":1})", R"({"b":"x","d":1})", R"({"b":"x",})"}},
      {R"({"type":"object","properties":{"ab":{"type":"integer"}},"additionalProperties":{"type":"boolean"}})",
       {R"({})", R"({"ab":1})", R"({"a":true})", R"({"abc":true,"b":false})", R"({"ab":2,"x":true})", R"({"":true})"},
       {R"({"ab":true})", R"({"a":1})", R"({"x":true,"ab":1})"}},
      {R"({"type":"object","required":["k"]})", {R"({"k":[1]})"}, {R"({})", R"({"j":1})"}},
      {R"({"type":"object"})", {R"({})", R"({"x":{"y":[1,true]}})"}, {"[]", "1"}},
      {R"({"anyOf":[{"type":"integer"},{"const":"a"}]})", {"4", "\"a\""}, {"\"b\"", "4.5"}},
      {R"({"$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"]}},"$ref":"#/$defs/node"})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"}, {R"({"v":1})", R"({"v":1,"next":{}})"}},
      {R"({"type":"object","properties":{"sub":{"type":"array","items":{"$ref":"#"}}},"required":["sub"]})", {R"({"sub":[]})", R"({"sub":[{"sub":[]}]})"}, {R"({})"}},
      {R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"null"}},"required":["b"]}]})",
       {R"({"a":1,"b":null})"}, {R"({"a":1})", R"({"b":null})"}},
      {R"({"type":"string","pattern":"^[A-Z]{2}\\d+$"})", {"\"AB1\"", "\"ZZ007\""}, {"\"A1\"", "\"AB\"", "\"AB1x\""}},
      {R"({"type":"string","pattern":"b|^a\"$"})", {"\"xbx\"", "\"a\\\"\"", "\"b\""}, {"\"a\"", "\"xa\\\"\""}},
      {R"({"type":"string","format":"date"})", {"\"2024-02-28\"", "\"1999-12-31\"", "\"0100-01-01\""}, {"\"0000-01-01\"", "\"2024-13-01\"", "\"2023-02-30\"", "\"24-01-01\""}},
      {R"({"anyOf":[{"type":"integer"},{"type":"string"}],"type":"string"})", {"\"a\""}, {"1", "null"}},
      {R"({"anyOf":[{"type":"number"},{"type":["string","null"]},{"minLength":1},true],"type":["integer","null"]})", {"1", "null"}, {"1.5", "\"a\"", "true"}},
      {R"({"anyOf":[{"enum":["a",1]},{"type":"boolean","nullable":true}],"type":["string","boolean"]})", {"\"a\"", "true"}, {"1", "null"}},
      {R"({"anyOf":[{"anyOf":[{"type":"integer"},{"const":"b"}]},{"type":"array"}],"type":["string","integer"]})", {"1", "\"b\""}, {"[]", "\"c\""}},
      {R"({"oneOf":[{"type":"integer"},{"type":"string"},{"enum":[null,1.5]}]})", {"1", "\"a\"", "null", "1.5"}, {"2.5", "true"}},
      {R"({"oneOf":[{"enum":["a","b"]},{"const":"c"}]})", {"\"a\"", "\"c\""}, {"\"d\""}},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"x"},"v":{"type":"integer"}},"required":["k"]},
                    {"type":"object","properties":{"k":{"const":"y"},"v":{"type":"string"}},"required":["k"]}]})",
       {R"({"k":"x","v":1})", R"({"k":"y","v":"a"})"}, {R"({"k":"x","v":"a"})", R"({"k":"z"})", R"({})"}},
      {R"({"oneOf":[{"type":"object","properties":{"a":{}},"required":["a"]},{"type":"object","properties":{"b":{}},"required":["b"]},{"type":"null"}]})",
       {R"({"a":1})", R"({"b":1})", "null"}, {R"({})", R"({"a":1,"b":1})"}},
      {R"({"$defs":{"i":{"type":"integer"},"s":{"oneOf":[{"type":"string"},{"type":"null"}]}},"oneOf":[{"$ref":"#/$defs/i"},{"$ref":"#/$defs/s"}]})",
       {"1", "\"a\"", "null"}, {"true"}},
      {R"({"type":"object","properties":{"ab":false},"additionalProperties":true})", {R"({"a":1})", R"({"abc":1})"}, {R"({"ab":1})"}},
      {R"({"format":"ipv4"})", {"\"1.2.3.255\""}, {"\"1.2.3.256\"", "1"}},
      {R"({"type":"string","format":"email"})", {"\"a.b+c@mail.example.org\"", "\"x@y.de\""},
       {"\"a\"", "\"a@\"", "\"@b.de\"", "\"a..b@c.de\"", "\".a@c.de\"", "\"a.@c.de\"", "\"a@-c.de\"", "\"a@c-.de\"", "\"a b@c.de\"", "\"a@c..de\"", "\"a@b@c.de\""}},
      {R"({"type":"string","format":"hostname"})", {"\"a\"", "\"xn--bcher-kva.example\"", "\"3com.com\""}, {"\"\"", "\"-a\"", "\"a-\"", "\"a..b\"", "\".a\"", "\"a.\"", "\"a_b\""}},
      {R"({"type":"string","format":"ipv6"})", {"\"::\"", "\"::1\"", "\"1::\"", "\"fe80::1:2\"", "\"1:2:3:4:5:6:7:8\"", "\"1:2:3:4:5:6:7::\"", "\"::2:3:4:5:6:7:8\"", "\"1::3:4:5:6:7:8\""},
       {"\"\"", "\":\"", "\":::\"", "\"1\"", "\"1:2:3:4:5:6:7\"", "\"1:2:3:4:5:6:7:8:9\"", "\"1::2::3\"", "\"12345::\"", "\"::g\"", "\"1:2:3:4:5:6:7:8::\"", "\"::1:2:3:4:5:6:7:8\"", "\"1:\"", "\":1\""}},
      {R"({"type":"string","format":"duration"})", {"\"P1Y2M3DT4H5M6S\"", "\"PT0S\"", "\"P3W\"", "\"P1M\"", "\"PT1M\"", "\"P1DT12H\""},
       {"\"P\"", "\"PT\"", "\"P1\"", "\"1D\"", "\"P1D2Y\"", "\"P1Y3D\"", "\"PT1H3S\"", "\"P1W2D\"", "\"P1DT\"", "\"P1S\""}},
      {R"({"type":"integer","nullable":true,"maximum":1,"minimum":1})", {"1", "null"}, {"0"}},
      {"true", {"[1,{\"a\":null}]", "\"x\""}, {"", "{"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.schema);
    const auto automaton = compiled(c.schema);
    ASSERT_TRUE(automaton.ok()) << automaton.error().message;
    Matcher m(*automaton);
    for (const char* text : c.in) EXPECT_TRUE(matches(m, text)) << text;
    for (const char* text : c.out) EXPECT_FALSE(matches(m, text)) << text;
  }
}

TEST(JsonSchema, RefusesWhatAGrammarCannotHold) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"type":"strnig"})", "expected one of"},
      {R"({"properties":{"a":{"multipleOf":2}}})", "#/properties/a: 'multipleOf'"},
      {R"({"not":{}})", "'not'"},
      {R"({"uniqueItems":true})", "uniqueItems"},
      {R"({"$ref":"other.json"})", "outside"},
      {R"({"$ref":"#/$defs/x"})", "nowhere"},
      {R"({"$ref":"#"})", "never end"},
      {R"({"enum":[]})", "list of values"},
      {R"({"type":"integer","const":"a"})", "no value"},
      {R"({"minItems":2,"maxItems":1})", "less than"},
      {R"({"type":"string","minLength":-1})", "minLength"},
      {R"({"type":"number","minimum":0.1,"maximum":0.9})", "bounds"},
      {R"({"type":"string","pattern":"(?=a)b"})", "cannot be held"},
      {R"({"type":"string","pattern":"(a"})", "without its )"},
      {R"({"type":"string","pattern":"a\\b"})", "cannot be held"},
      {R"({"allOf":[{"properties":{"a":{"type":"null"}}},{"properties":{"a":{"type":"string"}}}]})", "described twice"},
      {R"({"type":"object","properties":{"a":false},"required":["a"]})", "admits no value"},
      {R"({"type":"object","additionalProperties":false,"required":["a"]})", "neither listed"},
      {R"({"type":"object","properties":{"n":{"$ref":"#"}},"required":["n"]})", "never end"},
      {R"([1])", "expected an object"},
      {R"({"anyOf":[{"type":"integer"}],"type":"string"})", "no value"},
      {R"({"anyOf":[[1]],"type":"string"})", "expected an object"},
      {R"({"$defs":{"n":{"type":["integer","string"]}},"anyOf":[{"$ref":"#/$defs/n"}],"type":"string"})", "#/anyOf/0: it admits more"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "#/oneOf/1: a value could satisfy branch 0"},
      {R"({"oneOf":[{"type":"string"},{"type":"boolean"},{"const":"a"}]})", "#/oneOf/2: a value could satisfy branch 0"},
      {R"({"oneOf":[{"enum":["a",{"x":1,"y":2}]},{"const":{"y":2,"x":1}}]})", "#/oneOf/1"},
      {R"({"oneOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"type":"string"}]})", "#/oneOf/1"},
      {R"({"oneOf":[{"type":"object","properties":{"a":{}},"required":["a"]},{"type":"object","properties":{"a":{},"b":{}}}]})", "#/oneOf/1"},
      {R"({"oneOf":[{"type":"object","properties":{"a":{}},"required":["a"],"additionalProperties":true},{"type":"object","properties":{"b":{}},"required":["b"]}]})", "#/oneOf/1"},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"x"}}},{"type":"object","properties":{"k":{"const":"y"}}}]})", "#/oneOf/1"},
      {R"({"oneOf":[{"type":"string","nullable":true},{"type":"null"}]})", "#/oneOf/1"},
      {R"({"$defs":{"i":{"oneOf":[{"$ref":"#/$defs/i"},{"type":"null"}]}},"$ref":"#/$defs/i"})", "oneOf/1"},
      {R"({"$defs":{"i":{"anyOf":[{"$ref":"#/$defs/i"},{"$ref":"#/$defs/i"},{"$ref":"#/$defs/i"}]}},"oneOf":[{"$ref":"#/$defs/i"},{"type":"null"}]})", "oneOf/1"},
      {R"({"type":"string","format":"uri"})", "the format \"uri\""},
      {R"({"properties":{"a":{"type":["string","null"],"format":3}}})", "#/properties/a: the format 3"},
  };
  for (const auto& [schema, what] : cases) {
    const auto automaton = compiled(schema);
    ASSERT_FALSE(automaton.ok()) << schema;
    EXPECT_THAT(automaton.error().message, testing::HasSubstr(what)) << schema;
  }
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += R"({"type":"array","items":)";
  EXPECT_FALSE(json_schema_grammar(Json::parse(deep + "true" + std::string(200, '}'))).ok());
}

TEST(JsonSchema, AddressesAsTheSystemReadsThem) {
  const auto automaton = compiled(R"({"type":"string","format":"ipv6"})");
  ASSERT_TRUE(automaton.ok()) << automaton.error().message;
  Matcher m(*automaton);
  std::mt19937 random(3);
  in6_addr address{};
  int ended = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(m, random);
    if (text.size() < 2) continue;
    ++ended;
    EXPECT_EQ(inet_pton(AF_INET6, text.substr(1, text.size() - 2).c_str(), &address), 1) << text;
  }
  EXPECT_GT(ended, 1000);
  for (int i = 0; i < 2000; ++i) {
    for (uint8_t& byte : address.s6_addr) byte = random() % 3 ? 0 : static_cast<uint8_t>(random());
    char text[INET6_ADDRSTRLEN];
    const std::string written = inet_ntop(AF_INET6, &address, text, sizeof text);
    if (written.find('.') != std::string::npos) continue;  // an IPv4 address at its end
    EXPECT_TRUE(matches(m, "\"" + written + "\"")) << written;
  }
}

TEST(JsonSchema, IntegersBetweenBounds) {
  for (int low = -123; low <= 123; low += 7)
    for (int high = low; high <= 230; high += 11) {
      Grammar g;
      g.define("root", JsonParts(g).integer_between(low, high));
      auto automaton = Automaton::compile(g);
      ASSERT_TRUE(automaton.ok());
      Matcher m(*automaton);
      for (int n = -300; n <= 300; ++n) ASSERT_EQ(matches(m, std::to_string(n)), n >= low && n <= high) << low << " " << high << " " << n;
    }
}

TEST(JsonSchema, NumbersBetweenBounds) {
  for (const bool low_out : {false, true})
    for (const bool high_out : {false, true})
      for (int low = -12; low <= 12; low += 3)
        for (int high = low; high <= 25; high += 4) {
          Grammar g;
          const int node = JsonParts(g).number_between({low, low_out}, {high, high_out});
          if (node < 0) {
            EXPECT_EQ(low, high);
            continue;
          }
          g.define("root", node);
          auto automaton = Automaton::compile(g);
          ASSERT_TRUE(automaton.ok());
          Matcher m(*automaton);
          for (int tenths = -300; tenths <= 300; ++tenths) {
            const double x = tenths / 10.0;
            const bool in = (low_out ? x > low : x >= low) && (high_out ? x < high : x <= high);
            ASSERT_EQ(matches(m, fmt::format("{:.1f}", x)), in && !(tenths == 0 && std::signbit(x))) << low << " " << high << " " << x;
          }
        }
}

TEST(JsonSchema, RandomTextsAreJson) {
  std::mt19937 random(11);
  int ended = 0;
  for (const char* schema : {"true", R"({"type":"object","properties":{"a":{"type":"number"},"b":{"type":"array","items":{"type":"string"}}},"additionalProperties":true})",
                             R"({"type":"array","items":{"type":"string","pattern":"[^a-z]\\s."}})", R"({"type":"string","format":"date-time"})"}) {
    const auto automaton = compiled(schema);
    ASSERT_TRUE(automaton.ok()) << automaton.error().message;
    Matcher m(*automaton);
    for (int i = 0; i < 200; ++i) {
      const std::string text = random_text(m, random);
      if (text.empty()) continue;
      ++ended;
      EXPECT_TRUE(Json::accept(text)) << text;
    }
  }
  EXPECT_GT(ended, 400);
}

}  // namespace
}  // namespace venturi::grammar
