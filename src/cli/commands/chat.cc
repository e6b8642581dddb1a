// venturi chat: a conversation, with line editing and history.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/line_reader.h"
#include "cli/prediction.h"
#include "cli/prompt.h"
#include "cli/report.h"
#include "cli/sampling_flags.h"
#include "cli/session_file.h"
#include "cli/text.h"
#include "chat/encode.h"
#include "chat/render.h"
#include "tokenizers/detokenizer.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  SamplingFlags sampling;
  std::string system, template_file, session, on_full = "refuse";
  int64_t n = 0;  // 0: kAnswer, less in a small context
  bool quiet = false;
};

// For models that bring no template: one that any base model continues sensibly. Answers begin with the
// space that the model put there.
constexpr const char* kPlainTemplate =
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}User: {{ m.content }}\n{% else %}Assistant:{{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}";

// Tokens of an answer at most, where nobody says; a small context keeps room for more turns.
constexpr int64_t kAnswer = 512;

constexpr const char* kCommands =
    "/clear starts over, /quit or end of input leaves, Ctrl-C stops an answer.\n";

class Chat {
 public:
  Chat(Engine& engine, const Tokenizer& tokenizer, chat::Template chat_template, const Options& o)
      : engine_(engine), tokenizer_(tokenizer), template_(std::move(chat_template)), encoder_(tokenizer), o_(o) {
    if (const auto id = tokenizer.bos()) conversation_.bos_token = std::string(tokenizer.token_text(*id));
    if (const auto id = tokenizer.eos()) conversation_.eos_token = std::string(tokenizer.token_text(*id));
    clear();
  }

  // A question and its answer. After an error the conversation is what it was before.
  Status turn(SequenceState& sequence, const std::string& text, InterruptWatch& interrupt) {
    if (text.size() > longest_line_ && longest_line_ < kMaxPrompt)
      return too_long(engine_, o_.model.context > 0,
                      fmt::format("this message has more than {} bytes and so more tokens than fit", longest_line_), 0);
    const nlohmann::ordered_json before = conversation_.messages;
    conversation_.messages.push_back({{"role", "user"}, {"content", text}});
    Status status = answer(sequence, interrupt);
    if (!status) conversation_.messages = before;
    return status;
  }

  // Goes on where a session ended.
  Status take_up(SessionHead session) {
    const auto note = nlohmann::ordered_json::parse(session.note, nullptr, false);
    const bool whole = note.is_array() && std::all_of(note.begin(), note.end(), [](const auto& m) {
      return m.is_object() && m.contains("role") && m["role"].is_string() && m.contains("content") && m["content"].is_string();
    });
    if (!whole) return error(Code::kInvalidArgument, "{}: this session is not of a chat", o_.session);
    const bool has_system = !note.empty() && note[0]["role"] == "system";
    if (!o_.system.empty() && !(has_system && note[0]["content"] == o_.system))
      return error(Code::kInvalidArgument, "{}: this session has another system message; leave --system out", o_.session);
    conversation_.messages = note;
    held_ = std::move(session.tokens);
    held_.resize(static_cast<size_t>(session.length));
    return {};
  }
  Status keep(SequenceState& sequence) const {
    if (held_.empty()) return {};  // nothing was said
    return save_session_file(o_.session, engine_, sequence, held_, conversation_.messages.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }

  const Ran& ran() const { return ran_; }
  uint64_t longest_line() const { return longest_line_; }

  void clear() {
    conversation_.messages = nlohmann::ordered_json::array();
    if (!o_.system.empty()) conversation_.messages.push_back({{"role", "system"}, {"content", o_.system}});
  }

 private:
  Status answer(SequenceState& sequence, InterruptWatch& interrupt) {
    const std::vector<TokenId> tokens = TRY(fit());
    const auto common = static_cast<int64_t>(reuse(sequence, tokens));
    held_.resize(static_cast<size_t>(common));
    Sampler sampler = TRY(o_.sampling.sampler());
    // What is not computed again counts for the penalties all the same.
    for (const TokenId id : held_) sampler.accept(id);
    Detokenizer detokenizer(tokenizer_);
    std::string said;
    std::vector<TokenId> drawn;
    const auto say = [&](const std::string& piece) {
      said += piece;
      print_out(piece);
    };
    GenerateOptions options;
    options.max_tokens = std::min(longest_answer(), engine_.options().context - static_cast<int64_t>(tokens.size()) + 1);
    options.adapter = engine_.only_adapter();
    options.on_token = [&](TokenId id) {
      drawn.push_back(id);
      if (!tokenizer_.is_end_of_generation(id)) say(detokenizer.push(id));
      return !interrupt.noted();
    };
    const auto report = generate(engine_, sequence, sampler, std::span(tokens).subspan(held_.size()), options);
    const bool stopped = interrupt.take();
    if (report.ok()) say(detokenizer.finish());
    print_out("\n");
    held_ = tokens;
    held_.insert(held_.end(), drawn.begin(), drawn.end());
    held_.resize(static_cast<size_t>(sequence.length()));
    if (!report) return report.error();
    ran_.prompts.push_back({common, report->prompt_tokens});
    ran_.prompt_seconds += report->prefill_seconds;
    ran_.first_token_seconds += report->first_token_seconds;
    ran_.steps += (report->prompt_tokens - 1) / engine_.options().batch + report->generated_tokens;
    ran_.tokens += report->generated_tokens - 1;
    ran_.seconds += report->decode_seconds;
    ran_.position = sequence.length() / 2;
    conversation_.messages.push_back({{"role", "assistant"}, {"content", said}});
    if (!o_.quiet && isatty(2))
      std::fprintf(stderr, "[%ld tokens at %s%s; %ld of %ld in the context]\n", report->generated_tokens,
                   format_rate(report->decode_rate()).c_str(), stopped ? ", stopped" : "", sequence.length(),
                   engine_.options().context);
    return {};
  }

  // How many of the tokens the sequence holds already: they are not computed again.
  size_t reuse(SequenceState& sequence, const std::vector<TokenId>& tokens) const {
    size_t common = 0;
    while (common < held_.size() && common < tokens.size() - 1 && held_[common] == tokens[common]) ++common;
    if (sequence.truncate(static_cast<int64_t>(common))) return common;
    sequence.truncate(0);
    return 0;
  }

  Result<std::vector<TokenId>> render() const {
    auto segments = chat::render_chat(template_, conversation_);
    if (!segments) return std::move(segments).error().within("the chat template");
    std::vector<std::string_view> texts;
    for (const chat::Segment& segment : *segments) texts.push_back(segment.text);
    const Lease lease = TRY(tokenizer_lease(engine_.file().metadata, engine_.ledger(), texts));
    std::vector<TokenId> tokens = encoder_.encode(*segments);
    if (tokens.empty()) return error(Code::kCorrupt, "the chat template gives nothing for this conversation");
    const auto bos = tokenizer_.bos();
    if (tokenizer_.adds_bos() && bos && tokens[0] != *bos) tokens.insert(tokens.begin(), *bos);
    return tokens;
  }

  int64_t longest_answer() const {
    return o_.n > 0 ? o_.n : std::clamp<int64_t>(engine_.options().context / 4, 1, kAnswer);
  }

  // The conversation's tokens with room for an answer, as --on-full says.
  Result<std::vector<TokenId>> fit() {
    const int64_t context = engine_.options().context;
    const int64_t room = std::min<int64_t>(longest_answer(), context / 4);
    for (;;) {
      std::vector<TokenId> tokens = TRY(render());
      if (static_cast<int64_t>(tokens.size()) + room <= context) return tokens;
      const size_t first = o_.system.empty() ? 0 : 1;
      const bool has_turns = conversation_.messages.size() >= first + 3;
      if (!has_turns)
        return too_long(engine_, o_.model.context > 0,
                        fmt::format("this message alone takes {} tokens and an answer needs {}", tokens.size(), room),
                        static_cast<int64_t>(tokens.size()) + room);
      if (o_.on_full == "refuse") {
        Error full = too_long(engine_, o_.model.context > 0,
                              fmt::format("the context is full: the conversation has {} tokens and an answer needs {}", tokens.size(), room),
                              static_cast<int64_t>(tokens.size()) + room);
        full.message += "; /clear starts over, --on-full shift drops the oldest turns";
        return full;
      }
      // The oldest question and its answer.
      conversation_.messages.erase(first);
      conversation_.messages.erase(first);
    }
  }

  Engine& engine_;
  const Tokenizer& tokenizer_;
  chat::Template template_;
  chat::SegmentEncoder encoder_;
  const Options& o_;
  chat::Conversation conversation_;
  const uint64_t longest_line_ = longest_prompt(engine_);
  std::vector<TokenId> held_;  // by the sequence
  Ran ran_;                    // of all answers
};

Result<chat::Template> chat_template(const Engine& engine, const Options& o) {
  std::string source = kPlainTemplate;
  if (!o.template_file.empty()) {
    source = TRY(read_text_file(o.template_file, chat::Template::kMaxBytes));
  } else if (engine.file().metadata.contains("tokenizer.chat_template")) {
    source = TRY(engine.file().metadata.get_string("tokenizer.chat_template"));
  }
  auto parsed = chat::Template::parse(source);
  if (!parsed) return std::move(parsed).error().within("the chat template");
  return parsed;
}

// A slash and letters is meant for us, "/usr/lib" for the model.
bool is_command(const std::string& line) {
  return line.size() > 1 && line[0] == '/' &&
         std::all_of(line.begin() + 1, line.end(), [](unsigned char c) { return c < 128 && std::isalpha(c); });
}

std::string history_path() {
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.venturi_history" : "";
}

Status converse(Chat& chat, SequenceState& sequence) {
  InterruptWatch interrupt(isatty(0) == 1);
  LineReader reader(history_path(), interrupt.wake_fd());
  if (reader.terminal()) std::fputs(kCommands, stderr);
  std::string line;
  for (;;) {
    const LineReader::Outcome outcome = reader.next(line, chat.longest_line());
    if (interrupt.take() || outcome == LineReader::Outcome::kInterrupted) {
      std::fputs("\n", stderr);
      continue;
    }
    if (outcome == LineReader::Outcome::kEnd || line == "/quit" || line == "/exit") return {};
    if (line.empty()) continue;
    if (line == "/clear") {
      chat.clear();
    } else if (is_command(line)) {
      std::fprintf(stderr, "%s%s", line == "/help" ? "" : (line + " is no command. ").c_str(), kCommands);
    } else if (Status status = chat.turn(sequence, line, interrupt); !status) {
      // A person can go on after a refusal; a script should stop.
      if (!reader.terminal()) return status;
      std::fprintf(stderr, "%s\n", status.error().message.c_str());
    }
  }
}

Status run(const Options& o) {
  TRY(o.sampling.sampler());  // what is wrong with the flags is said before anything is loaded
  auto plan = TRY(o.model.load_plan());
  auto engine = TRY(o.model.open());
  if (engine->info().embeds) return error(Code::kUnsupported, "{} gives embeddings, not text", engine->file().path);
  const Tokenizer* tokenizer = TRY(engine->tokenizer());
  Chat chat(*engine, *tokenizer, TRY(chat_template(*engine, o)), o);
  auto sequence = TRY(engine->new_sequence());
  if (!o.session.empty())
    if (auto session = TRY(load_session_file(o.session, *engine, *sequence))) TRY(chat.take_up(std::move(*session)));
  Status status = converse(chat, *sequence);
  if (!o.session.empty()) {
    const Status kept = chat.keep(*sequence);
    if (!kept && !status) std::fprintf(stderr, "%s\n", kept.error().message.c_str());
    if (!kept && status) status = kept;
  }
  if ((plan || !o.model.memory.empty()) && !o.quiet) {
    const PredictionBasis basis = prediction_basis(*engine, std::move(plan));
    std::fputs(basis.plan ? prediction_report(*engine, *basis.plan, chat.ran()).c_str() : basis.hint.c_str(), stderr);
  }
  return status;
}

}  // namespace

extern const Command command_chat;
const Command command_chat{"chat", "Talk with a model", [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  o->model.add(app);
  o->model.add_state(app);
  o->model.add_adapter(app);
  o->model.add_plan(app);
  o->sampling.add(app);
  app.add_option("-n,--predict", o->n, "tokens of an answer at most (default: 512, a quarter of the context if that is less)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  app.add_option("--system", o->system, "the system message");
  app.add_option("--chat-template", o->template_file, "file with a Jinja chat template (default: the model's)");
  app.add_option("--session", o->session, "go on with the conversation in this file, if it is there, and keep it there in the end");
  app.add_option("--on-full", o->on_full, "when the context is full: refuse the message, or shift: drop the oldest turns")
      ->check(CLI::IsMember({"refuse", "shift"}))->capture_default_str();
  app.add_flag("-q,--quiet", o->quiet, "no figures after an answer");
  return [o] { return run(*o); };
}};

}  // namespace venturi
