#include "chat/template.h"

#include <nlohmann/json.hpp>

#include "chat/evaluator.h"
#include "chat/lexer.h"
#include "chat/parser.h"

namespace venturi::chat {

struct Template::Tree {
  std::string source;
  Body body;
};

Template::Template(std::unique_ptr<Tree> tree) : tree_(std::move(tree)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::parse(std::string_view source) {
  if (source.size() > kMaxBytes)
    return error(Code::kCorrupt, "the chat template has {} bytes; at most {} are read",
                 source.size(), kMaxBytes);
  auto tree = std::make_unique<Tree>();
  tree->source = normalise_source(source);
  auto tokens = TRY(tokenise_template(tree->source));
  tree->body = TRY(Parser(tree->source, std::move(tokens)).parse_template());
  return Template(std::move(tree));
}

namespace {

std::vector<Segment> cut_at_taint(const Text& text) {
  std::vector<Segment> segments;
  size_t at = 0;
  for (const Span& span : text.taint()) {
    if (span.begin > at) segments.push_back({text.bytes().substr(at, span.begin - at), true});
    segments.push_back({text.bytes().substr(span.begin, span.end - span.begin), false});
    at = span.end;
  }
  if (at < text.size()) segments.push_back({text.bytes().substr(at), true});
  return segments;
}

}  // namespace

Result<std::vector<Segment>> Template::render(const std::vector<Variable>& variables,
                                              const std::tm& now,
                                              const RenderLimits& limits) const {
  Meter meter(limits.steps, limits.live_bytes);
  Evaluator evaluator(meter, tree_->source, now, {limits.depth, limits.output_bytes});
  for (const Variable& variable : variables)
    evaluator.set(variable.name, from_json(meter, *variable.value, variable.trust));
  return cut_at_taint(TRY(evaluator.run(tree_->body)));
}

}  // namespace venturi::chat
