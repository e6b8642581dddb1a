// A conversation through a chat template, with the variables that Hugging Face's
// apply_chat_template gives it.
#pragma once

#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "chat/template.h"

namespace venturi::chat {

struct Conversation {
  nlohmann::ordered_json messages;  // [{"role": …, "content": …, …}, …]
  nlohmann::ordered_json tools;     // an array, or null
  std::string bos_token, eos_token;
  std::map<std::string, std::string> special_tokens;  // others: unk_token, pad_token, …
  bool add_generation_prompt = true;
  nlohmann::ordered_json extra;  // an object of further variables (enable_thinking, …), or null
  std::optional<std::tm> now;    // for strftime_now; this moment in local time if absent
};

// Everything in messages, tools and extra is text from outside, except a message's "role" where it
// is one of the known roles: templates spell control tokens with it ("<|" + role + "|>"). A
// variable of `extra` cannot replace one of the others.
Result<std::vector<Segment>> render_chat(const Template& chat_template,
                                         const Conversation& conversation,
                                         const RenderLimits& limits = {});

// The text of all segments.
std::string join_segments(const std::vector<Segment>& segments);

}  // namespace venturi::chat
