// How often a draft model's draw is the model's, drawn with the same random number, beside the most that any way
// of drawing could have (decision 014): coupling_bench MODEL DRAFT TEXT [TOKENS]
//
// Both read the same text; at every position p and q are what the sampling chain leaves of their logits.
//   most   Σ min(pᵢ, qᵢ), what rejection sampling accepts
//   drawn  Σ |Iᵢ(p) ∩ Iᵢ(q)|, the intervals of inverse transform: what the same random number gives both
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>

#include "base/file.h"
#include "engine/engine.h"
#include "models/sampling.h"

namespace venturi {
namespace {

using Candidates = std::vector<Sampler::Candidate>;

void normalise(Candidates& candidates) {
  double sum = 0;
  for (const auto& c : candidates) sum += c.probability;
  for (auto& c : candidates) c.probability /= sum;
}

struct Shares {
  double most = 0, drawn = 0;
};

Shares shares(Candidates p, Candidates q) {
  normalise(p);
  normalise(q);
  struct Interval {
    double begin, end;
  };
  std::unordered_map<int32_t, Interval> of_q;
  double at = 0;
  for (const auto& c : q) {
    of_q[c.token] = {at, at + c.probability};
    at += c.probability;
  }
  Shares s;
  at = 0;
  for (const auto& c : p) {
    const double begin = at, end = at += c.probability;
    const auto other = of_q.find(c.token);
    if (other == of_q.end()) continue;
    s.most += std::min(end - begin, other->second.end - other->second.begin);
    s.drawn += std::max(0.0, std::min(end, other->second.end) - std::max(begin, other->second.begin));
  }
  return s;
}

Result<Candidates> distribution(Engine& engine, SequenceState& sequence, TokenId token, Sampler& sampler) {
  const std::span<const float> logits = TRY(engine.feed(sequence, {&token, 1}));
  return sampler.distribution(logits, static_cast<uint64_t>(sequence.length()));
}

Status run(const char* model, const char* draft, const char* text, int64_t n) {
  EngineOptions options;
  options.context = n;
  const auto engine = TRY(Engine::open(model, options)), other = TRY(Engine::open(draft, options));
  auto tokens = TRY(engine->tokenizer())->encode(TRY(read_text_file(text)));
  tokens.resize(std::min<size_t>(tokens.size(), static_cast<size_t>(n)));
  struct Chain {
    const char* name;
    SamplingParams params;
  };
  std::vector<Chain> chains{{"the default chain", {}}, {"temperature 1 alone", {}}, {"temperature 1, top-p 0.9", {}}};
  for (size_t i = 1; i < 3; ++i) {
    SamplingParams& p = chains[i].params;
    p.temperature = 1, p.top_k = 0, p.min_p = 0, p.top_p = i == 1 ? 1.0f : 0.9f;
  }
  for (const Chain& chain : chains) {
    auto first = TRY(engine->new_sequence()), second = TRY(other->new_sequence());
    Sampler mine = TRY(Sampler::create(chain.params)), its = TRY(Sampler::create(chain.params));
    Shares sum;
    for (const TokenId token : tokens) {
      const Shares s = shares(TRY(distribution(*engine, *first, token, mine)), TRY(distribution(*other, *second, token, its)));
      sum.most += s.most;
      sum.drawn += s.drawn;
    }
    const double count = static_cast<double>(tokens.size());
    std::printf("%-26s most %.3f, drawn %.3f, over %zu positions\n", chain.name, sum.most / count, sum.drawn / count, tokens.size());
  }
  return {};
}

}  // namespace
}  // namespace venturi

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: coupling_bench MODEL DRAFT TEXT [TOKENS]\n");
    return 2;
  }
  if (const auto status = venturi::run(argv[1], argv[2], argv[3], argc > 4 ? std::atoll(argv[4]) : 1000); !status) {
    std::fprintf(stderr, "%s\n", status.error().message.c_str());
    return 1;
  }
  return 0;
}
