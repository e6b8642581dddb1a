#include "cli/sampling_flags.h"

#include <cerrno>
#include <cstdlib>
#include <limits>

namespace venturi {

const CLI::Validator kSeed(
    [](std::string& text) -> std::string {
      errno = 0;
      (void)std::strtoull(text.c_str(), nullptr, 0);
      return errno == ERANGE ? text + " is beyond " + std::to_string(std::numeric_limits<uint64_t>::max()) : "";
    },
    "", "seed");

void SamplingFlags::add(CLI::App& app) {
  app.add_option("--temp", params.temperature, "temperature; 0 takes the likeliest token")->capture_default_str();
  app.add_option("--top-k", params.top_k, "draw from the k likeliest; 0: off")->capture_default_str();
  app.add_option("--top-p", params.top_p, "draw from the likeliest that make up this probability; 1: off")->capture_default_str();
  app.add_option("--min-p", params.min_p, "leave out what is less likely than this share of the likeliest; 0: off")->capture_default_str();
  app.add_option("--typical", params.typical_p, "locally typical sampling; 1: off")->capture_default_str();
  app.add_option("--repeat-penalty", params.repetition_penalty, "divide the logits of recent tokens; 1: off")->capture_default_str();
  app.add_option("--presence-penalty", params.presence_penalty, "lower tokens that occurred")->capture_default_str();
  app.add_option("--frequency-penalty", params.frequency_penalty, "lower tokens by how often they occurred")->capture_default_str();
  app.add_option("--repeat-last-n", params.penalty_last_n, "tokens the penalties look back on; -1: all")->capture_default_str();
  app.add_option("--mirostat", params.mirostat, "hold the surprise: 1 or 2; 0: off")->capture_default_str();
  app.add_option("--mirostat-ent", params.mirostat_tau, "mirostat's target surprise in bits")->capture_default_str();
  app.add_option("--mirostat-lr", params.mirostat_eta, "mirostat's learning rate")->capture_default_str();
  app.add_option("--logit-bias", bias, "add to a token's logit: ID+1.5, ID-2, ID-inf (repeatable)");
  app.add_option("--seed", params.seed, "seed; the same seed gives the same tokens")->check(kSeed)->capture_default_str();
}

Result<Sampler> SamplingFlags::sampler() const {
  LogitBias biases;
  for (const std::string& item : bias) {
    const size_t sign = item.find_first_of("+-", 1);
    char *id_end = nullptr, *value_end = nullptr;
    const long id = std::strtol(item.c_str(), &id_end, 10);
    if (sign == std::string::npos || id_end != item.c_str() + sign || id < 0 || id > std::numeric_limits<int32_t>::max())
      return error(Code::kInvalidArgument, "--logit-bias '{}': write a token id and a signed number, for instance 15043+1.5", item);
    const float value = std::strtof(item.c_str() + sign, &value_end);
    if (*value_end != 0)
      return error(Code::kInvalidArgument, "--logit-bias '{}': '{}' is not a number", item, item.substr(sign));
    biases[static_cast<int32_t>(id)] = value;
  }
  SamplingParams p = params;
  p.logit_bias = std::make_shared<const LogitBias>(std::move(biases));
  return Sampler::create(p);
}

}  // namespace venturi
