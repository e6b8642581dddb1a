// A chat template: parsed once, rendered for each conversation.
//
// The language is the part of Jinja (template designer documentation, version 3.1) that chat
// templates use, with the settings and additions of Hugging Face: trim_blocks, lstrip_blocks, break
// and continue, `generation`, tojson without HTML escapes, raise_exception and strftime_now. What
// differs from Jinja: integers have 64 bits; `safe` and `escape` give plain strings; map, select
// and their like are evaluated at once, though they print as lists and are true when empty, as
// generators are; include, import, extends and block do not exist.
//
// A rendering cannot hang, exhaust the stack or take unbounded memory: each limit passed is an
// Error. Errors name line and column. Rendering is const and may run on many threads at once.
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "chat/value.h"

namespace venturi::chat {

// A stretch of rendered text. Only where `is_template_text` may control tokens be read: the rest
// came from messages, tools or other variables of the request, whatever filters it went through.
struct Segment {
  std::string text;
  bool is_template_text = true;
  bool operator==(const Segment&) const = default;
};

struct RenderLimits {
  uint64_t steps = 20'000'000;            // about a second
  size_t live_bytes = size_t{512} << 20;  // of all values at one time
  size_t output_bytes = size_t{32} << 20;
  int depth = 400;  // of nested expressions, blocks and macro calls
};

struct Variable {
  std::string name;
  const nlohmann::ordered_json* value = nullptr;
  Trust trust = Trust::kOutside;
};

class Template {
 public:
  static constexpr size_t kMaxBytes = size_t{1} << 20;

  static Result<Template> parse(std::string_view source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // `now` is what strftime_now formats. Neighbouring segments differ in is_template_text.
  Result<std::vector<Segment>> render(const std::vector<Variable>& variables, const std::tm& now,
                                      const RenderLimits& limits = {}) const;

 private:
  struct Tree;
  explicit Template(std::unique_ptr<Tree> tree);
  std::unique_ptr<Tree> tree_;
};

}  // namespace venturi::chat
