// Against python3-jinja2: tools/golden/chat_templates.py wrote what it makes of the same templates.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "chat/render.h"

namespace venturi::chat {
namespace {

using Json = nlohmann::ordered_json;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const std::filesystem::path& data() {
  static const std::filesystem::path path = VENTURI_SOURCE_DIR "/tests/data/chat";
  return path;
}

std::tm golden_now() {  // Friday 2025-03-07 14:05:09
  std::tm now{};
  now.tm_year = 125;
  now.tm_mon = 2;
  now.tm_mday = 7;
  now.tm_hour = 14;
  now.tm_min = 5;
  now.tm_sec = 9;
  now.tm_wday = 5;
  now.tm_yday = 65;
  return now;
}

// The joined text, or the error's message behind a mark that no template prints.
std::string outcome(const Result<std::vector<Segment>>& rendered) {
  if (!rendered) return "\x01" + rendered.error().message;
  return join_segments(*rendered);
}
bool failed(const std::string& outcome) { return outcome.starts_with('\x01'); }

TEST(ChatTemplates, EveryConversationRendersAsInJinja) {
  const Json golden = Json::parse(read(data() / "conversations.json"));
  size_t compared = 0;
  for (const auto& results : golden["results"].items()) {
    const auto parsed = Template::parse(read(data() / results.key()));
    ASSERT_TRUE(parsed.ok()) << results.key() << ": " << parsed.error().message;
    for (const auto& result : results.value().items()) {
      const std::string& name = result.key();
      const Json& context = golden["contexts"][name.substr(name.find('/') + 1)];
      Conversation conversation;
      conversation.messages = golden["conversations"][name.substr(0, name.find('/'))];
      conversation.bos_token = "<s>";
      conversation.eos_token = "</s>";
      conversation.now = golden_now();
      conversation.extra = Json::object();
      for (const auto& variable : context.items()) {
        if (variable.key() == "add_generation_prompt")
          conversation.add_generation_prompt = variable.value();
        else if (variable.key() == "tools")
          conversation.tools = variable.value();
        else
          conversation.extra[variable.key()] = variable.value();
      }
      const std::string got = outcome(render_chat(*parsed, conversation));
      if (result.value().is_null()) {
        EXPECT_TRUE(failed(got)) << results.key() << " " << name << " rendered: " << got;
      } else {
        EXPECT_EQ(got, result.value().get<std::string>()) << results.key() << " " << name;
      }
      ++compared;
    }
  }
  EXPECT_GE(compared, 14u * 56u);
}

TEST(ChatTemplates, EveryConstructEvaluatesAsInJinja) {
  const Json golden = Json::parse(read(data() / "expressions.json"));
  const std::tm now = golden_now();
  std::vector<Variable> variables;
  for (const auto& item : golden["variables"].items())
    variables.push_back({item.key(), &item.value()});
  for (const Json& one : golden["cases"]) {
    const std::string source = one["template"];
    const auto parsed = Template::parse(source);
    const std::string got =
        parsed ? outcome(parsed->render(variables, now)) : "\x01" + parsed.error().message;
    if (one["expected"].is_null()) {
      EXPECT_TRUE(failed(got)) << source << "\nrendered: " << got;
    } else {
      EXPECT_EQ(got, one["expected"].get<std::string>()) << source;
    }
  }
  EXPECT_GE(golden["cases"].size(), 500u);
}

}  // namespace
}  // namespace venturi::chat
