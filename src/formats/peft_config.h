// adapter_config.json of peft: what of it decides how an adapter is used.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace venturi {

// A regular expression over names of modules, as Python's re.fullmatch has it, with a limit on its work.
class ModulePattern {
 public:
  static Result<ModulePattern> compile(const std::string& pattern);
  Result<bool> matches(std::string_view name) const;

 private:
  struct Compiled;
  ModulePattern() = default;
  std::string text_;
  std::shared_ptr<const Compiled> compiled_;
};

struct PeftConfig {
  std::string path;
  int64_t rank = 8;
  double alpha = 8;
  bool rank_stabilised = false;  // use_rslora: alpha / sqrt(rank), not alpha / rank
  std::vector<std::pair<ModulePattern, double>> ranks = {}, alphas = {};  // rank_pattern, alpha_pattern
  bool all_linear = false;
  std::optional<ModulePattern> target = {};  // or
  std::vector<std::string> targets = {};     // last parts of names of modules

  // Of a module ("model.layers.0.self_attn.q_proj").
  Result<int64_t> rank_of(std::string_view module) const;
  Result<float> scale_of(std::string_view module) const;
  Result<bool> adapts(std::string_view module) const;
};

// Code::kUnsupported naming the field that asks for what is not done here, Code::kCorrupt for one that is
// wrong.
Result<PeftConfig> parse_peft_config(std::string_view text, const std::string& path);

}  // namespace venturi
