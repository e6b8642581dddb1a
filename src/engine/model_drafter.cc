#include <algorithm>
#include <unordered_map>

#include "base/clock.h"
#include "base/log.h"
#include "engine/drafter.h"
#include "engine/engine.h"

namespace venturi {

namespace {

class ModelDrafter : public Drafter {
 public:
  ModelDrafter(std::unique_ptr<Engine> engine, int64_t vocab_size) : engine_(std::move(engine)), vocab_size_(vocab_size) {}

  // Times a step of one row, which every guess takes.
  Status warm_up();
  void guess(std::span<Guessing> streams) override;
  void forget(uint64_t stream) override { followed_.erase(stream); }
  double guess_seconds() const override { return guess_seconds_; }

 private:
  // A stream as the draft model has it.
  struct Followed {
    std::unique_ptr<SequenceState> state;
    std::vector<TokenId> tokens = {};  // that are in its state
    std::optional<Sampler> sampler = {};
  };
  struct Row {
    Guessing* stream;
    Followed* followed;
  };

  Followed* follow(const Guessing& stream);
  std::vector<Row> catch_up(std::span<Guessing> streams, Step& step);
  void draw(std::vector<Row>& rows, const Act& logits);

  const std::unique_ptr<Engine> engine_;
  const int64_t vocab_size_;  // of the model that it guesses for
  std::unordered_map<uint64_t, Followed> followed_;
  double guess_seconds_ = 0;
  bool broken_ = false;
};

Status ModelDrafter::warm_up() {
  auto sequence = TRY(engine_->new_sequence());
  for (int i = 0; i < 3; ++i) {
    const TokenId any = 0;
    const double begin = now_seconds();
    TRY(engine_->feed(*sequence, {&any, 1}));
    const double seconds = now_seconds() - begin;
    guess_seconds_ = i == 0 ? seconds : std::min(guess_seconds_, seconds);
  }
  return {};
}

// Cut to what is true of it; null where there is no place for it.
ModelDrafter::Followed* ModelDrafter::follow(const Guessing& stream) {
  Followed& f = followed_[stream.stream];
  if (!f.state) {
    auto made = engine_->new_sequence();
    if (!made) return nullptr;
    f.state = std::move(made).value();
  }
  const auto differs = std::mismatch(f.tokens.begin(), f.tokens.end(), stream.tokens.begin(), stream.tokens.end()).first;
  // One is left to compute: what comes after it is wanted.
  const auto same = std::min(differs - f.tokens.begin(), static_cast<int64_t>(stream.tokens.size()) - 1);
  if (!f.state->truncate(same)) (void)f.state->truncate(0);
  f.tokens.resize(static_cast<size_t>(f.state->length()));
  // It will draw with the numbers that the stream will.
  if (!f.sampler) f.sampler = *stream.sampler;
  f.sampler->follow(*stream.sampler);
  return &f;
}

// A step of what is missing of the streams, as much as goes into one; the rows of those that are complete.
std::vector<ModelDrafter::Row> ModelDrafter::catch_up(std::span<Guessing> streams, Step& step) {
  std::vector<Row> rows;
  for (Guessing& s : streams) {
    const int64_t left = engine_->options().batch - step.n_rows();
    const auto known = static_cast<int64_t>(s.tokens.size());
    s.most = std::min(s.most, engine_->options().context - known);
    if (s.most <= 0 || left <= 0) continue;
    Followed* f = follow(s);
    if (!f) continue;
    const auto have = static_cast<int64_t>(f->tokens.size()), n = std::min(left, known - have);
    if (!f->state->reserve(std::min(have + n + s.most - 1, engine_->options().context))) continue;
    step.spans.push_back({.row_begin = step.n_rows(), .n_rows = n, .position = have, .state = f->state.get()});
    const auto missing = s.tokens.subspan(static_cast<size_t>(have), static_cast<size_t>(n));
    step.tokens.insert(step.tokens.end(), missing.begin(), missing.end());
    f->tokens.insert(f->tokens.end(), missing.begin(), missing.end());
    if (have + n < known) continue;
    step.output_rows.push_back(step.n_rows() - 1);
    rows.push_back({&s, f});
  }
  return rows;
}

// A guess for each row; those who want more stay among the rows.
void ModelDrafter::draw(std::vector<Row>& rows, const Act& logits) {
  std::vector<Row> more;
  for (size_t i = 0; i < rows.size(); ++i) {
    Guessing& s = *rows[i].stream;
    Sampler& sampler = *rows[i].followed->sampler;
    const auto id = sampler.sample({logits.row(static_cast<int64_t>(i)), static_cast<size_t>(logits.cols())}, s.position + s.guesses.size());
    if (!id || *id >= vocab_size_) continue;
    sampler.accept(*id);
    s.guesses.push_back(*id);
    if (static_cast<int64_t>(s.guesses.size()) < s.most) more.push_back(rows[i]);
  }
  rows = std::move(more);
}

void ModelDrafter::guess(std::span<Guessing> streams) {
  if (broken_) return;
  Step step;
  std::vector<Row> rows = catch_up(streams, step);
  while (!step.spans.empty()) {
    const double begin = now_seconds();
    const auto logits = engine_->step(step);
    if (!logits) {
      spdlog::warn("the draft model fails, and guesses no more: {}", logits.error().message);
      broken_ = true;
      return followed_.clear();
    }
    const bool one_each = step.n_rows() == static_cast<int64_t>(step.spans.size());
    draw(rows, **logits);
    if (one_each) guess_seconds_ += 0.2 * (now_seconds() - begin - guess_seconds_);
    step = {};
    for (const Row& row : rows) {
      step.spans.push_back({.row_begin = step.n_rows(), .n_rows = 1, .position = row.followed->state->length(), .state = row.followed->state.get()});
      step.tokens.push_back(row.stream->guesses.back());
      row.followed->tokens.push_back(row.stream->guesses.back());
      step.output_rows.push_back(step.n_rows() - 1);
    }
  }
}

Status check_vocabulary(const Engine& engine, const Engine& draft) {
  const Tokenizer* mine = TRY(engine.tokenizer());
  const Tokenizer* its = TRY(draft.tokenizer());
  // Some pairs differ in how many unused tokens pad them.
  for (TokenId id = 0; id < std::min(mine->vocab_size(), its->vocab_size()); ++id)
    if (mine->token_text(id) != its->token_text(id))
      return error(Code::kUnsupported, "{} cannot guess for {}: their token {} is {} and {}", draft.file().path, engine.file().path, id,
                   its->token_text(id), mine->token_text(id));
  return {};
}

}  // namespace

Result<std::unique_ptr<Drafter>> model_drafter(std::unique_ptr<Engine> draft, const Engine& engine) {
  if (draft->info().embeds) return error(Code::kUnsupported, "{} gives embeddings, and cannot guess tokens", draft->file().path);
  if (!draft->repeats())
    return error(Code::kUnsupported, "{} keeps a recurrent state, which cannot take a wrong guess back; it cannot guess", draft->file().path);
  TRY(check_vocabulary(engine, *draft));
  auto drafter = std::make_unique<ModelDrafter>(std::move(draft), engine.info().vocab_size);
  TRY(drafter->warm_up());
  return std::unique_ptr<Drafter>(std::move(drafter));
}

}  // namespace venturi
