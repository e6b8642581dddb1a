#include "server/sessions.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "cache/session.h"
#include "engine/fingerprint.h"
#include "server/app.h"

namespace venturi::server {

namespace {

constexpr const char* kEnding = ".session";
constexpr uint64_t kSliceBytes = 4u << 20;  // read or written between two steps

ApiError session_error(const Error& error) {
  ApiError api{.message = error.message, .param = "session"};
  switch (error.code) {
    case Code::kNotFound: api.status = 404; api.code = "session_not_found"; break;
    case Code::kInvalidArgument: api.status = 409; api.code = "session_of_another_model"; break;
    case Code::kCorrupt: case Code::kUnsupported: api.status = 422; api.code = "session_damaged"; break;
    case Code::kOutOfBudget: api.status = 503; api.type = "server_error"; api.code = "session_does_not_fit"; break;
    default: api.status = 500; api.type = "server_error"; api.code = "session_failed";
  }
  return api;
}

// Null: the model alone.
const Adapter* adapter_of(const Target& target) { return target.adapter.empty() ? nullptr : target->engine->adapters().find(target.adapter); }

// Code::kInvalidArgument where the state is not what the model makes with the adapter.
Result<std::unique_ptr<SessionReader>> open_session(const std::string& path, const Engine& engine, const Adapter* adapter) {
  return SessionReader::open(path, TRY(state_fingerprint(engine, adapter)), engine.state_pool().slots(), engine.info().vocab_size,
                             engine.options().context);
}

// Whose state is in a file that is not the target's: perhaps the model's with another adapter.
ApiError of_another(const std::string& path, const Target& target, const Error& why) {
  const auto say = [&](const std::string& name) {
    return ApiError{.status = 409,
                    .message = fmt::format("the session was saved of {}, and {} is asked for; restore it with \"model\": \"{}\"", name, target.name, name),
                    .param = "session",
                    .code = "session_of_another_adapter"};
  };
  const Engine& engine = *target->engine;
  if (!target.adapter.empty() && open_session(path, engine, nullptr)) return say(target->name);
  for (const auto& adapter : engine.adapters().all())
    if (adapter->name() != target.adapter && open_session(path, engine, adapter.get())) return say(target->name + ":" + adapter->name());
  return session_error(why);
}

// What both directions have: a sequence of the model's, given back when this ends.
class SessionChore : public Chore {
 public:
  SessionChore(Target target, SessionAbout about, SessionDone done)
      : target_(std::move(target)), about_(std::move(about)), done_(std::move(done)) {
    if (const Adapter* adapter = adapter_of(target_)) cursor_.kind = adapter->number();
  }
  ~SessionChore() override {
    if (done_) done_(shutting_down());
  }

  // Instead of being done.
  void refuse(ApiError why) { tell(std::move(why)); }

  bool some(Engine& engine) final {
    if (!sequence_) {
      sequence_ = begin(engine);
      if (!sequence_) return false;  // another of its kind has it
    }
    auto over = slice(engine);
    if (over && !*over) return false;
    if (KeptStates* kept = engine.kept_states(); kept && over) kept->put(std::move(sequence_), tokens(), cursor_.kind);
    sequence_.reset();
    if (!over) tell(session_error(over.error()));
    return true;
  }

 protected:
  virtual std::unique_ptr<SequenceState> begin(Engine& engine) {
    auto made = engine.new_sequence();
    return made ? std::move(made).value() : nullptr;
  }
  virtual Result<bool> slice(Engine& engine) = 0;
  virtual std::span<const TokenId> tokens() const = 0;  // that the sequence is after, in the end
  void tell(std::variant<SessionAbout, ApiError> what) {
    if (auto done = std::exchange(done_, nullptr)) done(std::move(what));
  }

  const Target target_;
  SessionAbout about_;
  SessionDone done_;
  std::unique_ptr<SequenceState> sequence_;
  PrefixCache::Cursor cursor_;
};

class Saving : public SessionChore {
 public:
  using Commit = std::function<void(std::unique_ptr<SessionWriter>, SessionAbout, SessionDone)>;
  Saving(Target target, std::string path, SessionHead head, SessionAbout about, SessionDone done, Commit commit)
      : SessionChore(std::move(target), std::move(about), std::move(done)), path_(std::move(path)), head_(std::move(head)), commit_(std::move(commit)) {}

 private:
  std::span<const TokenId> tokens() const override { return head_.tokens; }
  std::unique_ptr<SequenceState> begin(Engine& engine) override {
    if (KeptStates* kept = engine.kept_states())
      if (auto state = kept->take(head_.tokens, static_cast<int64_t>(head_.tokens.size()), cursor_.kind)) return state;
    return SessionChore::begin(engine);
  }
  Result<bool> slice(Engine& engine) override {
    if (!writer_) {
      const auto n = static_cast<int64_t>(head_.tokens.size());
      if (engine.prefix_cache()) engine.prefix_cache()->attach(*sequence_, head_.tokens, n, cursor_);
      if (sequence_->length() != n)
        return error(Code::kOutOfBudget, "the conversation's state has no room beside what runs; save it again later");
      head_.length = n;
      const StatePool& pool = engine.state_pool();
      writer_ = TRY(SessionWriter::create(path_, head_, pool, *sequence_));
    }
    if (!TRY(writer_->some(kSliceBytes))) return false;
    about_.bytes = writer_->bytes();
    commit_(std::move(writer_), about_, std::exchange(done_, nullptr));
    return true;
  }

  const std::string path_;
  SessionHead head_;
  const Commit commit_;
  std::unique_ptr<SessionWriter> writer_;
};

class Restoring : public SessionChore {
 public:
  Restoring(Target target, std::unique_ptr<SessionReader> reader, SessionAbout about, SessionDone done)
      : SessionChore(std::move(target), std::move(about), std::move(done)), reader_(std::move(reader)) {}

 private:
  std::span<const TokenId> tokens() const override { return reader_->head().tokens; }
  Result<bool> slice(Engine& engine) override {
    // States that nobody uses make room.
    while (engine.kept_states() && !sequence_->reserve(reader_->head().length))
      if (!engine.kept_states()->drop_oldest()) break;
    if (!TRY(reader_->some(*sequence_, kSliceBytes))) return false;
    if (engine.prefix_cache()) engine.prefix_cache()->publish(*sequence_, reader_->head().tokens, cursor_, true);
    tell(about_);
    return true;
  }

  const std::unique_ptr<SessionReader> reader_;
};

std::optional<ApiError> unsuitable(const Target& target) {
  const auto refuse = [](std::string message) { return ApiError{.message = std::move(message), .param = "model", .code = "unsupported"}; };
  if (!target->service) return refuse(fmt::format("{} gives embeddings: it has no conversations", target.name));
  if (!target->engine->prefix_cache() && !target->engine->kept_states())
    return refuse(fmt::format("{} keeps no prefixes (--no-prefix-cache); sessions need them", target.name));
  return std::nullopt;
}

}  // namespace

Sessions::Sessions(std::string folder) : folder_(std::move(folder)), thread_([this] { work(); }) {}

Result<std::unique_ptr<Sessions>> Sessions::open(const std::string& folder) {
  std::error_code failed;
  if (!std::filesystem::is_directory(folder, failed) || ::access(folder.c_str(), R_OK | W_OK | X_OK) != 0)
    return error(Code::kInvalidArgument, "--session-dir {} is no folder that can be read and written", folder);
  return std::unique_ptr<Sessions>(new Sessions(folder));
}

Sessions::~Sessions() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Sessions::add(std::function<void()> job) {
  const std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  wake_.notify_all();
}

// What was begun is finished: a file that has been written is synced.
void Sessions::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    {
      const auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
    }
    lock.lock();
  }
}

std::variant<std::string, ApiError> Sessions::path(const std::string& name) const {
  const auto allowed = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || (c && std::strchr("._-", c)); };
  if (name.empty() || name.size() > 128 || name[0] == '.' || !std::all_of(name.begin(), name.end(), allowed))
    return ApiError{.message = "session must be 1 to 128 letters, digits and . _ - and not begin with a dot", .param = "session"};
  return folder_ + "/" + name + kEnding;
}

void Sessions::save(const Target& target, const std::string& name, std::vector<TokenId> tokens, const Account& account, SessionDone done) {
  const auto file = path(name);
  if (const ApiError* wrong = std::get_if<ApiError>(&file)) return done(*wrong);
  if (const auto why = unsuitable(target)) return done(*why);
  add([this, target, name, path = std::get<std::string>(file), tokens = std::move(tokens), account, done = std::move(done)] {
    const auto model = state_fingerprint(*target->engine, adapter_of(target));
    if (!model) return done(session_error(model.error()));
    auto saving = std::make_shared<std::unique_ptr<Saving>>(std::make_unique<Saving>(
        target, path, SessionHead{.model = *model, .tokens = tokens}, SessionAbout{name, static_cast<int64_t>(tokens.size())}, done,
        [this](std::unique_ptr<SessionWriter> writer, SessionAbout about, SessionDone told) {
          auto whole = std::make_shared<std::unique_ptr<SessionWriter>>(std::move(writer));
          add([whole, about, told] {
            const Status status = (*whole)->commit();
            if (status) return told(about);
            told(session_error(status.error()));
          });
        }));
    // What is drawn is of no interest, only that all before it is computed.
    Submission all;
    all.prompt = tokens;
    all.adapter = adapter_of(target);
    all.max_new_tokens = 1;
    all.sampling.temperature = 0;
    all.ignore_end = true;
    all.key = account.name;
    all.weight = account.weight;
    all.max_priority = account.max_priority;
    const auto ticket = target->service->submit(std::move(all), [saving, service = target->service.get()](const Update& update) {
      if (update.finish == Finish::kNone || !*saving) return;
      if (update.finish == Finish::kLength) return service->add(std::move(*saving));
      // The chore would say that the server is shutting down.
      if (update.finish == Finish::kRefused)
        (*saving)->refuse({.status = 429, .type = "rate_limit_error", .message = update.refusal->message, .code = "rate_limit_exceeded",
                           .retry_after_seconds = std::max(1.0, update.refusal->retry_after_seconds)});
      saving->reset();
    });
    if (!ticket) (*saving)->refuse(session_error(ticket.error()));
  });
}

void Sessions::restore(const Target& target, const std::string& name, SessionDone done) {
  const auto file = path(name);
  if (const ApiError* wrong = std::get_if<ApiError>(&file)) return done(*wrong);
  if (const auto why = unsuitable(target)) return done(*why);
  add([target, name, path = std::get<std::string>(file), done = std::move(done)] {
    const auto read = [&]() -> Result<std::unique_ptr<SessionReader>> {
      auto reader = TRY(open_session(path, *target->engine, adapter_of(target)));
      TRY(reader->verify());
      return reader;
    };
    auto reader = read();
    if (!reader) return done(reader.error().code == Code::kInvalidArgument ? of_another(path, target, reader.error()) : session_error(reader.error()));
    SessionAbout about{name, (*reader)->head().length, 0};
    target->service->add(std::make_unique<Restoring>(target, std::move(reader).value(), about, done));
  });
}

std::vector<SessionAbout> Sessions::list() const {
  std::vector<SessionAbout> all;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, failed)) {
    if (entry.path().extension() != kEnding || !entry.is_regular_file(failed)) continue;
    SessionAbout about{.name = entry.path().stem().string()};
    about.bytes = entry.file_size(failed);
    if (!failed) all.push_back(std::move(about));
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return all;
}

std::optional<ApiError> Sessions::remove(const std::string& name) {
  const auto file = path(name);
  if (const ApiError* wrong = std::get_if<ApiError>(&file)) return *wrong;
  if (::unlink(std::get<std::string>(file).c_str()) == 0) return std::nullopt;
  if (errno == ENOENT) return session_error(error(Code::kNotFound, "there is no session {}", name));
  return session_error(error(Code::kIo, "session {}: {}", name, std::strerror(errno)));
}

}  // namespace venturi::server
