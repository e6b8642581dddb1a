// venturi tokenize: text to ids, with a file that need hold no weights.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/text.h"
#include "formats/model_file.h"

#include <nlohmann/json.hpp>

namespace venturi {

namespace {

struct Options {
  std::string model;
  TextFlags text;
  bool ids = false, no_bos = false, special = false, json = false;
};

Status run(const Options& o) {
  const auto file = TRY(open_model(TRY(model_path(o.model))));
  auto opened = Tokenizer::from_metadata(file->metadata);
  if (!opened) return std::move(opened).error().within(file->path);
  const auto& tokenizer = *opened;
  const std::string text = TRY(o.text.text());
  const auto ids = tokenizer->encode(text, {.add_special = !o.no_bos, .parse_special = o.special});
  std::string out;
  if (o.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const TokenId id : ids) list.push_back({{"id", id}, {"text", std::string(tokenizer->token_text(id))}});
    out = list.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  } else if (o.ids) {
    for (size_t i = 0; i < ids.size(); ++i) out += fmt::format("{}{}", i ? " " : "", ids[i]);
    out += "\n";
  } else {
    for (const TokenId id : ids) out += fmt::format("{:6} '{}'\n", id, tokenizer->piece(id, true));
  }
  print_out(out);
  return {};
}

}  // namespace

extern const Command command_tokenize;
const Command command_tokenize{"tokenize", "Turn text into token ids", [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  app.add_option("-m,--model", o->model, "GGUF file (a vocabulary alone will do) or Hugging Face directory");
  o->text.add(app, "the text");
  app.add_flag("--ids", o->ids, "only the ids, on one line");
  app.add_flag("--no-bos", o->no_bos, "do not add BOS, EOS and the like");
  app.add_flag("--special", o->special, "control tokens written in the text become their ids");
  app.add_flag("--json", o->json, "JSON");
  return [o] { return run(*o); };
}};

}  // namespace venturi
