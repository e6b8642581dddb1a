// Time to the first token of a conversation's second turn beside its first: turns_bench MODEL
// FOLDER [REPETITIONS]
//
// A prompt of 1,500 tokens is answered with 16; 20 tokens follow, and are answered from pages in
// memory; then, after another conversation has taken the pages, 20 others, from the file.
#include <cstdio>
#include <cstdlib>
#include <future>

#include "base/clock.h"
#include "engine/service.h"
#include "planner/probe.h"

namespace venturi {
namespace {

constexpr int64_t kFirst = 1500, kSecond = 20, kAnswer = 16, kContext = 1600;

struct Turn {
  std::vector<TokenId> tokens;
  double first_token_seconds = 0;
  int64_t cached = 0;
};

Result<Turn> ask(Service& service, std::vector<TokenId> prompt) {
  Turn turn;
  std::promise<void> done;
  Submission s;
  s.prompt = std::move(prompt);
  s.max_new_tokens = kAnswer;
  s.ignore_end = true;
  s.sampling.temperature = 0;
  TRY(service.submit(std::move(s), [&](const Update& u) {
    if (u.token) turn.tokens.push_back(u.token->id);
    turn.cached += u.cached_tokens;
    if (u.finish == Finish::kNone) return;
    turn.first_token_seconds = u.times.first_token - u.times.submitted;
    done.set_value();
  }));
  done.get_future().wait();
  return turn;
}

std::vector<TokenId> text(int64_t n, int seed, int64_t vocabulary) {
  std::vector<TokenId> tokens;
  for (int64_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<TokenId>((i * 7919 + seed * 104729 + 3) % vocabulary));
  return tokens;
}

Status run(const char* model, const char* folder, int repetitions) {
  // Pages for little more than one conversation.
  EngineOptions options{.context = kContext, .sequences = 2, .shared_state = true};
  options.outputs = 2;
  options.spill = folder;
  options.state_memory = 1;
  {
    EngineOptions whole = options;
    whole.state_memory = 0;
    options.state_memory = TRY(Engine::open(model, whole))->footprint().state * 11 / 20;
  }
  const auto engine = TRY(Engine::open(model, options));
  const auto service = TRY(Service::start(*engine));
  const int64_t vocabulary = engine->info().vocab_size;
  std::vector<double> from_memory, from_file;
  std::vector<double> first_seconds;
  uint64_t read = 0;
  for (int r = 0; r < repetitions; ++r) {
    const std::vector<TokenId> opening = text(kFirst, 2 * r, vocabulary);
    const Turn first = TRY(ask(*service, opening));
    std::vector<TokenId> talk = opening;
    talk.insert(talk.end(), first.tokens.begin(), first.tokens.end());
    std::vector<TokenId> other = talk;
    for (const TokenId id : text(kSecond, 900 + r, vocabulary)) talk.push_back(id);
    for (const TokenId id : text(kSecond, 700 + r, vocabulary)) other.push_back(id);
    const Turn second = TRY(ask(*service, talk));
    TRY(ask(*service, text(kFirst, 2 * r + 1, vocabulary)));
    const uint64_t before = service->counts().state_read_bytes;
    const Turn again = TRY(ask(*service, other));
    read = service->counts().state_read_bytes - before;
    std::printf(
        "first %.3f s; second from memory %.3f s (%ld cached), from the file %.3f s (%ld cached, "
        "%s read)\n",
        first.first_token_seconds, second.first_token_seconds, second.cached,
        again.first_token_seconds, again.cached, format_bytes(read).c_str());
    from_memory.push_back(second.first_token_seconds / first.first_token_seconds);
    from_file.push_back(again.first_token_seconds / first.first_token_seconds);
  }
  const Spread m = spread_of(from_memory), f = spread_of(from_file);
  std::printf(
      "second turn over first: from memory %.2f %% (%.2f to %.2f), from the file %.2f %% (%.2f to "
      "%.2f)\n",
      100 * m.median, 100 * m.low, 100 * m.high, 100 * f.median, 100 * f.low, 100 * f.high);
  return {};
}

}  // namespace
}  // namespace venturi

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "turns_bench MODEL FOLDER [REPETITIONS]\n");
    return 2;
  }
  if (const auto status = venturi::run(argv[1], argv[2], argc > 3 ? std::atoi(argv[3]) : 3);
      !status) {
    std::fprintf(stderr, "%s\n", status.error().message.c_str());
    return 1;
  }
}
