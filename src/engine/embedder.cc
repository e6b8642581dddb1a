#include "engine/embedder.h"

#include <algorithm>
#include <cassert>
#include <set>

#include "base/clock.h"

namespace venturi {

Result<std::optional<Pooling>> pooling_of(const Engine& engine) {
  const Metadata& metadata = engine.file().metadata;
  const std::string key = engine.info().architecture + ".pooling_type";
  if (!metadata.contains(key)) return std::optional<Pooling>();
  switch (const int64_t type = TRY(metadata.get_int(key))) {
    case 0: return std::optional<Pooling>();
    case 1: return std::optional(Pooling::kMean);
    case 2: return std::optional(Pooling::kFirst);
    case 3: return std::optional(Pooling::kLast);
    default: return error(Code::kUnsupported, "{}: {} is {}; known are 0 (none), 1 (mean), 2 (first token), 3 (last token)", engine.file().path, key, type);
  }
}

Result<std::unique_ptr<Embedder>> Embedder::start(Engine& engine, const Options& options) {
  if (!engine.info().embeds && !options.pooling)
    return error(Code::kUnsupported, "{} gives text, not embeddings", engine.file().path);
  std::unique_ptr<Embedder> embedder(new Embedder(engine, options));
  const int sequences = options.sequences > 0 ? options.sequences : engine.options().sequences;
  {
    const auto turn = take_turn(options.turn.get());
    for (int i = 0; i < sequences; ++i) embedder->items_.push_back({.state = TRY(engine.new_sequence())});
  }
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
  {
    const auto turn = take_turn(o_.turn.get());
    items_.clear();
  }
  for (const auto& job : jobs_) job->done(error(Code::kIo, "the server is shutting down"), job->times);
}

Result<uint64_t> Embedder::submit(std::vector<std::vector<TokenId>> texts, Done done) {
  const int64_t context = engine_.options().context;
  const int64_t most = engine_.info().whole_spans ? std::min(context, engine_.options().batch) : context;
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
  if (draining_ || static_cast<int64_t>(jobs_.size()) >= o_.max_waiting)
    return error(Code::kOutOfBudget, "{}",
                 draining_ ? "the server is shutting down" : "too many requests wait");
  auto job = std::make_unique<Job>();
  job->id = next_id_++;
  job->out.resize(texts.size());
  job->texts = std::move(texts);
  job->done = std::move(done);
  job->times.submitted = now_seconds();
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

// Rows for the step that comes: of texts that are begun, then of one text of every request in turn, while there is
// room. Whether there are any.
bool Embedder::gather() {
  int64_t rows = 0;
  const bool whole_only = engine_.info().whole_spans;
  const auto take = [&](Item& item) {
    const auto left = static_cast<int64_t>(item.tokens().size()) - item.done, room = engine_.options().batch - rows;
    item.rows = whole_only && left > room ? 0 : std::min(left, room);
    rows += item.rows;
    return item.rows > 0;
  };
  for (Item& item : items_) {
    item.rows = 0;
    if (item.job) take(item);
  }
  auto free = items_.begin();
  for (bool any = true; any;) {
    any = false;
    for (const auto& job : jobs_) {
      free = std::find_if(free, items_.end(), [](const Item& item) { return !item.job; });
      if (free == items_.end() || rows == engine_.options().batch) break;
      if (job->next == job->texts.size()) continue;
      free->job = job.get();
      free->text = job->next;
      free->done = 0;
      free->sum.clear();
      if (!take(*free)) {
        free->job = nullptr;
        continue;
      }
      ++job->next;
      any = true;
    }
  }
  // Another's text is the one that surely finds room next time.
  if (!jobs_.empty()) {
    jobs_.push_back(std::move(jobs_.front()));
    jobs_.pop_front();
  }
  return rows > 0;
}

Status Embedder::run() {
  Step step;
  const bool embeds = engine_.info().embeds;
  step.hidden = !embeds;
  for (Item& item : items_) {
    if (item.rows == 0) continue;
    const int64_t begin = step.n_rows(), end = begin + item.rows;
    if (item.done == 0) item.state->truncate(0);
    step.spans.push_back({.row_begin = begin, .n_rows = item.rows, .position = item.done, .state = item.state.get()});
    const auto from = item.tokens().begin() + item.done;
    step.tokens.insert(step.tokens.end(), from, from + item.rows);
    if (embeds) continue;
    const bool last = item.done + item.rows == static_cast<int64_t>(item.tokens().size());
    const auto wanted = [&](int64_t row) {
      switch (*o_.pooling) {
        case Pooling::kMean: return true;
        case Pooling::kFirst: return item.done == 0 && row == begin;
        case Pooling::kLast: return last && row == end - 1;
      }
      return false;
    };
    for (int64_t row = begin; row < end; ++row)
      if (wanted(row)) step.output_rows.push_back(row);
  }
  const Act* out = TRY(engine_.step(step));
  for (int64_t row = 0, i = 0; Item& item : items_) {
    if (item.rows == 0) continue;
    if (embeds) {
      item.job->out[item.text].assign(out->row(i), out->row(i) + out->cols());
    } else {
      const int64_t end = step.spans[static_cast<size_t>(i)].row_begin + item.rows;
      for (; row < out->rows() && step.output_rows[static_cast<size_t>(row)] < end; ++row) pool(item, *out, row);
    }
    ++i;
    item.done += item.rows;
    if (item.whole()) item.state->truncate(0);  // others have its pages
  }
  return {};
}

// One more of an item's hidden states. Sums are over tokens in order, whatever the steps were.
void Embedder::pool(Item& item, const Act& out, int64_t row) {
  const float* x = out.row(row);
  const auto n = static_cast<size_t>(out.cols());
  std::vector<float>& into = item.job->out[item.text];
  if (*o_.pooling != Pooling::kMean) {
    into.assign(x, x + n);
    return;
  }
  item.sum.resize(n);
  into.resize(n);
  for (size_t i = 0; i < n; ++i) item.sum[i] += x[i];
  for (size_t i = 0; i < n; ++i) into[i] = static_cast<float>(item.sum[i] / static_cast<double>(item.tokens().size()));
}

// After a step, with the lock: the jobs that are over.
std::vector<std::unique_ptr<Embedder::Job>> Embedder::settle(const Status& status) {
  std::vector<std::unique_ptr<Job>> over;
  const auto find = [&](const Job* job) { return std::find_if(jobs_.begin(), jobs_.end(), [&](const auto& j) { return j.get() == job; }); };
  std::set<Job*> failed;
  for (Item& item : items_) {
    if (!item.job || (item.rows == 0 && find(item.job) != jobs_.end())) continue;
    if (!status && item.rows > 0) failed.insert(item.job);
    if (status && item.rows > 0 && item.whole()) {
      ++item.job->ready;
      ++counts_.texts;
      counts_.tokens += item.tokens().size();
    }
    const auto at = find(item.job);
    if (at != jobs_.end() && status && item.job->ready == item.job->texts.size()) {
      over.push_back(std::move(*at));
      jobs_.erase(at);
      item.job = nullptr;
    } else if (at == jobs_.end() || item.whole()) {
      item.job = nullptr;  // done, or cancelled
    }
  }
  for (Job* job : failed) {
    for (Item& item : items_)
      if (item.job == job) item.job = nullptr;
    const auto at = find(job);
    if (at == jobs_.end()) continue;
    over.push_back(std::move(*at));
    jobs_.erase(at);
    ++counts_.failed;
  }
  return over;
}

void Embedder::loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      [[maybe_unused]] const bool any = gather();
      assert(any);  // the first job has a text, and there is room for one
      busy_ = true;
    }
    double begin;
    Status status;
    {
      const auto turn = take_turn(o_.turn.get());
      begin = now_seconds();
      for (const Item& item : items_)
        if (item.rows > 0 && item.job->times.started == 0) item.job->times.started = begin;
      status = run();
    }
    std::vector<std::unique_ptr<Job>> over, gone;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.steps;
      counts_.step_seconds += now_seconds() - begin;
      over = settle(status);
      gone.swap(cancelled_);  // what they hold is let go of without the lock
    }
    for (const auto& job : over) {
      job->times.ended = now_seconds();
      job->done(status ? Result<Embeddings>(std::move(job->out)) : Result<Embeddings>(status.error()), job->times);
    }
    const std::lock_guard lock(mutex_);
    busy_ = false;
    if (jobs_.empty()) idle_.notify_all();
  }
}

}  // namespace venturi
