#include "server/served_model.h"

namespace venturi::server {

namespace {

// For models that bring no template.
constexpr const char* kPlainTemplate =
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}User: {{ m.content }}\n{% else %}Assistant: {{ m.content }}\n{% "
    "endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}";

}  // namespace

Result<std::unique_ptr<ServedModel>> ServedModel::create(std::unique_ptr<Engine> engine, std::string name) {
  auto model = std::make_unique<ServedModel>();
  model->name = std::move(name);
  model->engine = std::move(engine);
  const Tokenizer& tokenizer = *TRY(model->engine->tokenizer());
  model->tokenizer = &tokenizer;
  std::string source = kPlainTemplate;
  const auto& metadata = model->engine->file().metadata;
  if (metadata.contains("tokenizer.chat_template")) source = TRY(metadata.get_string("tokenizer.chat_template"));
  auto parsed = chat::Template::parse(source);
  if (!parsed) return std::move(parsed).error().within("the chat template");
  model->chat_template = std::make_unique<chat::Template>(std::move(parsed).value());
  model->tool_format = &chat::tool_format_for(source);
  model->template_takes_tools = chat::takes_tools(source);
  for (const std::string& mark : {model->tool_format->begin, model->tool_format->end})
    if (const auto id = tokenizer.find(mark); id && !mark.empty() && tokenizer.kind(*id) == TokenKind::kControl)
      model->tool_marks.push_back(*id);
  model->segments = std::make_unique<chat::SegmentEncoder>(tokenizer);
  model->trie = std::make_shared<grammar::TokenTrie>(tokenizer);
  return model;
}

}  // namespace venturi::server
