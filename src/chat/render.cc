#include "chat/render.h"

namespace venturi::chat {

namespace {

std::tm local_now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm now{};
  localtime_r(&seconds, &now);
  return now;
}

}  // namespace

Result<std::vector<Segment>> render_chat(const Template& chat_template,
                                         const Conversation& conversation,
                                         const RenderLimits& limits) {
  using Json = nlohmann::ordered_json;
  if (!conversation.messages.is_array())
    return error(Code::kInvalidArgument, "messages must be an array");
  for (const Json& message : conversation.messages)
    if (!message.is_object())
      return error(Code::kInvalidArgument, "every message must be an object");
  if (!conversation.extra.is_null() && !conversation.extra.is_object())
    return error(Code::kInvalidArgument, "the further variables of a template must be an object");

  std::vector<Variable> variables;
  if (conversation.extra.is_object())
    for (const auto& item : conversation.extra.items())
      variables.push_back({item.key(), &item.value(), Trust::kOutside});
  std::map<std::string, Json> tokens(conversation.special_tokens.begin(),
                                     conversation.special_tokens.end());
  // A model without the token has no such variable.
  if (!conversation.bos_token.empty()) tokens["bos_token"] = conversation.bos_token;
  if (!conversation.eos_token.empty()) tokens["eos_token"] = conversation.eos_token;
  for (const auto& [name, token] : tokens) variables.push_back({name, &token, Trust::kTemplate});
  const Json generate = conversation.add_generation_prompt;
  const Json none;
  variables.push_back({"messages", &conversation.messages, Trust::kMessages});
  variables.push_back({"tools", &conversation.tools, Trust::kOutside});
  if (!conversation.extra.contains("documents"))
    variables.push_back({"documents", &none, Trust::kOutside});
  variables.push_back({"add_generation_prompt", &generate, Trust::kTemplate});
  return chat_template.render(variables, conversation.now ? *conversation.now : local_now(),
                              limits);
}

std::string join_segments(const std::vector<Segment>& segments) {
  std::string text;
  for (const Segment& segment : segments) text += segment.text;
  return text;
}

}  // namespace venturi::chat
