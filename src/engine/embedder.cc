#include "engine/embedder.h"

#include <algorithm>

#include "base/clock.h"

namespace venturi {

Result<std::unique_ptr<Embedder>> Embedder::start(Engine& engine, int64_t max_waiting, std::shared_ptr<Turn> turn) {
  if (!engine.info().embeds)
    return error(Code::kUnsupported, "{} gives text, not embeddings", engine.file().path);
  std::unique_ptr<Embedder> embedder(new Embedder(engine, max_waiting, std::move(turn)));
  for (int i = 0; i < engine.options().sequences; ++i)
    embedder->states_.push_back(TRY(engine.new_sequence()));
  embedder->thread_ = std::thread([e = embedder.get()] { e->loop(); });
  return embedder;
}

Embedder::~Embedder() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (const auto& job : jobs_) job->done(error(Code::kIo, "the server is shutting down"));
}

Result<uint64_t> Embedder::submit(std::vector<std::vector<TokenId>> texts, Done done) {
  const int64_t most = std::min(engine_.options().context, engine_.options().batch);
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto n = static_cast<int64_t>(texts[i].size());
    if (n == 0) return error(Code::kInvalidArgument, "text {} has no tokens", i);
    if (n > most)
      return error(Code::kInvalidArgument, "text {} has {} tokens, the context holds {}", i, n,
                   most);
    for (const TokenId id : texts[i])
      if (id < 0 || id >= engine_.info().vocab_size)
        return error(Code::kInvalidArgument, "token id {} is outside the vocabulary of {}", id,
                     engine_.info().vocab_size);
  }
  if (texts.empty()) return error(Code::kInvalidArgument, "there is no text");
  const std::lock_guard lock(mutex_);
  if (draining_ || static_cast<int64_t>(jobs_.size()) >= max_waiting_)
    return error(Code::kOutOfBudget, "{}",
                 draining_ ? "the server is shutting down" : "too many requests wait");
  auto job = std::make_unique<Job>();
  job->id = next_id_++;
  job->out.resize(texts.size());
  job->texts = std::move(texts);
  job->done = std::move(done);
  jobs_.push_back(std::move(job));
  ++counts_.requests;
  wake_.notify_one();
  return next_id_ - 1;
}

void Embedder::cancel(uint64_t request) {
  const std::lock_guard lock(mutex_);
  const auto at =
      std::find_if(jobs_.begin(), jobs_.end(), [&](const auto& j) { return j->id == request; });
  if (at == jobs_.end()) return;
  ++counts_.cancelled;
  cancelled_.push_back(std::move(*at));
  jobs_.erase(at);
}

bool Embedder::drain(double seconds) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  return idle_.wait_for(lock, std::chrono::duration<double>(seconds),
                        [&] { return jobs_.empty() && !busy_; });
}

Embedder::Counts Embedder::counts() const {
  const std::lock_guard lock(mutex_);
  Counts counts = counts_;
  counts.waiting = static_cast<int64_t>(jobs_.size());
  return counts;
}

// One text of every request in turn, while there is room.
std::vector<Embedder::Item> Embedder::gather() {
  std::vector<Item> items;
  int64_t rows = 0;
  for (bool any = true; any;) {
    any = false;
    for (const auto& job : jobs_) {
      if (job->next == job->texts.size() || items.size() == states_.size()) continue;
      const auto n = static_cast<int64_t>(job->texts[job->next].size());
      if (rows + n > engine_.options().batch) continue;
      rows += n;
      items.push_back({job.get(), job->next++});
      any = true;
    }
  }
  // Another's text is the one that surely finds room next time.
  if (!jobs_.empty()) {
    jobs_.push_back(std::move(jobs_.front()));
    jobs_.pop_front();
  }
  return items;
}

Status Embedder::run(const std::vector<Item>& items) {
  Step step;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::vector<TokenId>& tokens = items[i].job->texts[items[i].text];
    states_[i]->truncate(0);
    step.spans.push_back({.row_begin = step.n_rows(),
                          .n_rows = static_cast<int64_t>(tokens.size()),
                          .position = 0,
                          .state = states_[i].get()});
    step.tokens.insert(step.tokens.end(), tokens.begin(), tokens.end());
  }
  const Act* out = TRY(engine_.step(step));
  for (size_t i = 0; i < items.size(); ++i) {
    const float* row = out->row(static_cast<int64_t>(i));
    items[i].job->out[items[i].text].assign(row, row + out->cols());
  }
  return {};
}

void Embedder::loop() {
  for (;;) {
    std::vector<Item> items;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      items = gather();
      busy_ = true;
    }
    double begin;
    Status status;
    {
      const auto turn = take_turn(turn_.get());
      begin = now_seconds();
      status = run(items);
    }
    std::vector<std::unique_ptr<Job>> over;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.steps;
      counts_.step_seconds += now_seconds() - begin;
      for (const Item& item : items) {
        ++item.job->ready;
        ++counts_.texts;
        counts_.tokens += item.job->texts[item.text].size();
      }
      for (const Item& item : items) {
        const auto at = std::find_if(jobs_.begin(), jobs_.end(),
                                     [&](const auto& j) { return j.get() == item.job; });
        if (at == jobs_.end() || (status && item.job->ready < item.job->texts.size())) continue;
        over.push_back(std::move(*at));
        jobs_.erase(at);
        if (!status) ++counts_.failed;
      }
      cancelled_.clear();
    }
    for (const auto& job : over)
      job->done(status ? Result<Embeddings>(std::move(job->out))
                       : Result<Embeddings>(status.error()));
    const std::lock_guard lock(mutex_);
    busy_ = false;
    if (jobs_.empty()) idle_.notify_all();
  }
}

}  // namespace venturi
