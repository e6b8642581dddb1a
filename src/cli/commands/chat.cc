// venturi chat: a conversation, with line editing and history.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/report.h"
#include "cli/sampling_flags.h"
#include "cli/text.h"
#include "chat/encode.h"
#include "chat/render.h"
#include "tokenizers/detokenizer.h"

#include <editline/readline.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  SamplingFlags sampling;
  std::string system, template_file, on_full = "refuse";
  int64_t n = 512;
  bool quiet = false;
};

// For models that bring no template: one that any base model continues sensibly.
constexpr const char* kPlainTemplate =
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}User: {{ m.content }}\n{% else %}Assistant: {{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}";

class LineReader {
 public:
  LineReader() : terminal_(isatty(0)) {
    const char* home = std::getenv("HOME");
    if (terminal_ && home) {
      file_ = std::string(home) + "/.venturi_history";
      using_history();
      read_history(file_.c_str());
    }
  }
  ~LineReader() {
    if (!file_.empty()) write_history(file_.c_str());
  }
  // False at the end of input.
  bool next(std::string& line) {
    if (!terminal_) return static_cast<bool>(std::getline(std::cin, line));
    char* text = readline("> ");
    if (!text) return false;
    line = text;
    if (!line.empty()) add_history(text);
    std::free(text);
    return true;
  }

 private:
  const bool terminal_;
  std::string file_;
};

class Chat {
 public:
  Chat(Engine& engine, const Tokenizer& tokenizer, chat::Template chat_template, const Options& o)
      : engine_(engine), tokenizer_(tokenizer), template_(std::move(chat_template)), encoder_(tokenizer), o_(o) {
    conversation_.messages = nlohmann::ordered_json::array();
    if (!o.system.empty()) conversation_.messages.push_back({{"role", "system"}, {"content", o.system}});
    if (const auto id = tokenizer.bos()) conversation_.bos_token = std::string(tokenizer.token_text(*id));
    if (const auto id = tokenizer.eos()) conversation_.eos_token = std::string(tokenizer.token_text(*id));
  }

  Status turn(SequenceState& sequence, const std::string& text) {
    conversation_.messages.push_back({{"role", "user"}, {"content", text}});
    std::vector<TokenId> tokens = TRY(fit());
    // What the sequence holds already is not computed again.
    size_t common = 0;
    while (common < held_.size() && common < tokens.size() - 1 && held_[common] == tokens[common]) ++common;
    if (!sequence.truncate(static_cast<int64_t>(common))) {
      common = 0;
      sequence.truncate(0);
    }
    Sampler sampler = TRY(o_.sampling.sampler());
    Detokenizer detokenizer(tokenizer_);
    std::string answer;
    std::vector<TokenId> drawn;
    GenerateOptions options;
    options.max_tokens = std::min(o_.n, engine_.options().context - static_cast<int64_t>(tokens.size()) + 1);
    options.on_token = [&](TokenId id) {
      drawn.push_back(id);
      if (tokenizer_.is_end_of_generation(id)) return true;
      const std::string piece = detokenizer.push(id);
      answer += piece;
      print_out(piece);
      return true;
    };
    const GenerationReport report =
        TRY(generate(engine_, sequence, sampler, std::span(tokens).subspan(common), options));
    print_out("\n");
    conversation_.messages.push_back({{"role", "assistant"}, {"content", answer}});
    held_ = std::move(tokens);
    held_.insert(held_.end(), drawn.begin(), drawn.end());
    held_.resize(static_cast<size_t>(sequence.length()));
    if (!o_.quiet && isatty(2))
      std::fprintf(stderr, "[%ld tokens at %s; %ld of %ld in the context]\n", report.generated_tokens,
                   format_rate(report.decode_rate()).c_str(), sequence.length(), engine_.options().context);
    return {};
  }

  void clear() {
    conversation_.messages = nlohmann::ordered_json::array();
    if (!o_.system.empty()) conversation_.messages.push_back({{"role", "system"}, {"content", o_.system}});
  }

 private:
  Result<std::vector<TokenId>> render() const {
    auto segments = chat::render_chat(template_, conversation_);
    if (!segments) return std::move(segments).error().within("the chat template");
    std::vector<TokenId> tokens = encoder_.encode(*segments);
    if (tokens.empty()) return error(Code::kCorrupt, "the chat template gives nothing for this conversation");
    const auto bos = tokenizer_.bos();
    if (tokenizer_.adds_bos() && bos && tokens[0] != *bos) tokens.insert(tokens.begin(), *bos);
    return tokens;
  }

  // The conversation's tokens with room for an answer, as --on-full says.
  Result<std::vector<TokenId>> fit() {
    const int64_t context = engine_.options().context;
    const int64_t room = std::min<int64_t>(o_.n, context / 4);
    for (;;) {
      std::vector<TokenId> tokens = TRY(render());
      if (static_cast<int64_t>(tokens.size()) + room <= context) return tokens;
      const size_t first = o_.system.empty() ? 0 : 1;
      if (o_.on_full == "refuse" || conversation_.messages.size() < first + 3) {
        const auto message = error(Code::kOutOfBudget,
                                   "the context is full: the conversation has {} tokens and an answer needs {}, the context "
                                   "holds {}. /clear starts over; -c {} gives more; --on-full shift drops the oldest turns",
                                   tokens.size(), room, context, 2 * context);
        conversation_.messages.erase(conversation_.messages.size() - 1);
        return message;
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
  std::vector<TokenId> held_;
};

Status run(const Options& o) {
  auto engine = TRY(o.model.open());
  const Tokenizer* tokenizer = TRY(engine->tokenizer());
  std::string source = kPlainTemplate;
  if (!o.template_file.empty()) {
    source = TRY(read_text_file(o.template_file, chat::Template::kMaxBytes));
  } else if (engine->file().metadata.contains("tokenizer.chat_template")) {
    source = TRY(engine->file().metadata.get_string("tokenizer.chat_template"));
  }
  auto parsed = chat::Template::parse(source);
  if (!parsed) return std::move(parsed).error().within("the chat template");
  Chat conversation(*engine, *tokenizer, std::move(parsed).value(), o);
  auto sequence = TRY(engine->new_sequence());
  LineReader reader;
  if (isatty(0)) std::fputs("/clear starts over, /quit or end of input leaves.\n", stderr);
  std::string line;
  while (reader.next(line)) {
    if (line.empty()) continue;
    if (line == "/quit" || line == "/exit") break;
    if (line == "/clear") {
      conversation.clear();
      continue;
    }
    if (Status status = conversation.turn(*sequence, line); !status) {
      // A person can go on after a refusal; a script should stop.
      if (!isatty(0)) return status;
      std::fprintf(stderr, "%s\n", status.error().message.c_str());
    }
  }
  return {};
}

}  // namespace

extern const Command command_chat;
const Command command_chat{"chat", "Talk with a model", [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  o->model.add(app);
  o->sampling.add(app);
  app.add_option("-n,--predict", o->n, "tokens of an answer at most")->check(CLI::Range(int64_t{1}, int64_t{1} << 30))->capture_default_str();
  app.add_option("--system", o->system, "the system message");
  app.add_option("--chat-template", o->template_file, "file with a Jinja chat template (default: the model's)");
  app.add_option("--on-full", o->on_full, "when the context is full: refuse the message, or shift: drop the oldest turns")
      ->check(CLI::IsMember({"refuse", "shift"}))->capture_default_str();
  app.add_flag("-q,--quiet", o->quiet, "no figures after an answer");
  return [o] { return run(*o); };
}};

}  // namespace venturi
