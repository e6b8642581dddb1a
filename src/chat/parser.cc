#include "chat/parser.h"

#include <algorithm>

namespace venturi::chat {

bool Parser::at_operator(std::string_view op) const {
  return peek().type == TokenType::kOperator && peek().text == op;
}
bool Parser::at_name(std::string_view name) const {
  return peek().type == TokenType::kName && peek().text == name;
}
bool Parser::take_operator(std::string_view op) {
  if (!at_operator(op)) return false;
  next();
  return true;
}
bool Parser::take_name(std::string_view name) {
  if (!at_name(name)) return false;
  next();
  return true;
}
Status Parser::expect_operator(std::string_view op) {
  if (!take_operator(op)) return expected(fmt::format("'{}'", op));
  return {};
}
Result<std::string> Parser::expect_name(std::string_view what) {
  if (peek().type != TokenType::kName) return expected(what);
  return next().text;
}

Error Parser::fail_at(size_t offset, std::string_view message) const {
  return error(Code::kCorrupt, "template {}: {}", position_of(source_, offset), message);
}

Error Parser::expected(std::string_view what) const {
  const Token& token = peek();
  std::string found;
  switch (token.type) {
    case TokenType::kData:
      found = "text outside a tag";
      break;
    case TokenType::kString:
      found = "a string";
      break;
    case TokenType::kEnd:
      found = "the end of the template";
      break;
    default:
      found = fmt::format("'{}'", token.text);
  }
  return fail_at(token.offset, fmt::format("{} expected, {} found", what, found));
}

ExprPtr Parser::make(ExprKind kind, size_t offset) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->offset = offset;
  return node;
}

Result<ExprPtr> Parser::finish(ExprPtr node) const {
  int depth = 0;
  for (const ExprPtr& child : node->children)
    if (child) depth = std::max(depth, child->depth);
  for (const Arg& arg : node->args) depth = std::max(depth, arg.value->depth);
  node->depth = depth + 1;
  if (node->depth > kMaxDepth)
    return fail_at(node->offset, fmt::format("an expression nests more than {} deep", kMaxDepth));
  return node;
}

Result<Body> Parser::parse_template() { return parse_body({}, "", 0); }

// Up to the block tag whose name is in `ends`, which is left for the caller (its "{%" taken), or up
// to the end of the template if `ends` is empty.
Result<Body> Parser::parse_body(std::initializer_list<std::string_view> ends,
                                std::string_view opened, size_t opened_at) {
  const Nesting nesting(nesting_);
  if (nesting_ > kMaxDepth)
    return fail_at(opened_at, fmt::format("blocks nest more than {} deep", kMaxDepth));
  Body body;
  for (;;) {
    const Token& token = peek();
    switch (token.type) {
      case TokenType::kEnd: {
        if (ends.size() == 0) return body;
        return fail_at(opened_at,
                       fmt::format("this '{}' is not closed: '{}' expected before the end", opened,
                                   *(ends.end() - 1)));
      }
      case TokenType::kData: {
        auto s = std::make_unique<Stmt>();
        s->text = token.text;
        s->offset = token.offset;
        body.push_back(std::move(s));
        next();
        break;
      }
      case TokenType::kPrintBegin: {
        auto s = std::make_unique<Stmt>();
        s->kind = StmtKind::kPrint;
        s->offset = next().offset;
        s->expr = TRY(parse_tuple(true, false));
        if (peek().type != TokenType::kPrintEnd) return expected("'}}' or an operator");
        next();
        body.push_back(std::move(s));
        break;
      }
      default: {
        next();  // {%
        if (peek().type != TokenType::kName) return expected("the name of a block");
        if (std::find(ends.begin(), ends.end(), peek().text) != ends.end()) return body;
        body.push_back(TRY(parse_statement()));
      }
    }
  }
}

Status Parser::end_block(std::string_view name) {
  if (peek().type != TokenType::kBlockEnd) return expected(fmt::format("'%}}' after {}", name));
  next();
  return {};
}

Result<StmtPtr> Parser::parse_statement() {
  auto s = std::make_unique<Stmt>();
  s->offset = peek().offset;
  const std::string name = next().text;
  if (name == "for") return parse_for(std::move(s));
  if (name == "if") return parse_if(std::move(s));
  if (name == "set") return parse_set(std::move(s));
  if (name == "macro") return parse_macro(std::move(s));
  if (name == "call") return parse_call_block(std::move(s));
  if (name == "filter") return parse_filter_block(std::move(s));
  if (name == "with") return parse_with(std::move(s));
  if (name == "break" || name == "continue") {
    if (loop_depth_ == 0)
      return fail_at(s->offset, fmt::format("'{}' stands outside a loop", name));
    s->kind = name == "break" ? StmtKind::kBreak : StmtKind::kContinue;
    if (auto status = end_block(name); !status) return std::move(status).error();
    return s;
  }
  if (name ==
      "generation") {  // marks the model's own words for training: only its body matters here
    s->kind = StmtKind::kScope;
    if (auto status = end_block(name); !status) return std::move(status).error();
    s->body = TRY(parse_body({"endgeneration"}, name, s->offset));
    next();
    if (auto status = end_block("endgeneration"); !status) return std::move(status).error();
    return s;
  }
  if (name == "include" || name == "import" || name == "from" || name == "extends" ||
      name == "block")
    return fail_at(s->offset,
                   fmt::format("'{}' needs other templates, which a chat template has not", name));
  return fail_at(s->offset,
                 fmt::format("a block tag (for, if, set, macro, call, filter, with, raw, "
                             "generation, break, continue) expected, '{}' found",
                             name));
}

Result<StmtPtr> Parser::parse_for(StmtPtr s) {
  s->kind = StmtKind::kFor;
  s->target = TRY(parse_target());
  if (!take_name("in")) return expected("'in'");
  s->expr = TRY(parse_tuple(false, false));
  if (take_name("if")) s->condition = TRY(parse_expression());
  s->recursive = take_name("recursive");
  if (auto status = end_block("for"); !status) return std::move(status).error();
  ++loop_depth_;
  s->body = TRY(parse_body({"else", "endfor"}, "for", s->offset));
  --loop_depth_;
  if (next().text == "else") {
    if (auto status = end_block("else"); !status) return std::move(status).error();
    s->otherwise = TRY(parse_body({"endfor"}, "for", s->offset));
    next();
  }
  if (auto status = end_block("endfor"); !status) return std::move(status).error();
  return s;
}

// A chain of elif becomes a tree as deep as the chain is long, so it counts as nesting.
Result<StmtPtr> Parser::parse_if(StmtPtr s) {
  const Nesting nesting(nesting_);
  s->kind = StmtKind::kIf;
  s->expr = TRY(parse_tuple(false, false));
  if (auto status = end_block("if"); !status) return std::move(status).error();
  s->body = TRY(parse_body({"elif", "else", "endif"}, "if", s->offset));
  const size_t offset = peek().offset;
  const std::string end = next().text;
  if (end == "elif") {
    auto branch = std::make_unique<Stmt>();
    branch->offset = offset;
    s->otherwise.push_back(TRY(parse_if(std::move(branch))));
    return s;  // the innermost branch took the endif
  }
  if (end == "else") {
    if (auto status = end_block("else"); !status) return std::move(status).error();
    s->otherwise = TRY(parse_body({"endif"}, "if", s->offset));
    next();
  }
  if (auto status = end_block("endif"); !status) return std::move(status).error();
  return s;
}

Result<ExprPtr> Parser::parse_single_target() {
  if (take_operator("(")) {
    auto target = TRY(parse_target());
    if (auto status = expect_operator(")"); !status) return std::move(status).error();
    return target;
  }
  const size_t offset = peek().offset;
  auto node = make(ExprKind::kName, offset);
  node->name = TRY(expect_name("a name to assign to"));
  if (!take_operator(".")) return node;
  auto attribute = make(ExprKind::kAttribute, offset);
  attribute->name = TRY(expect_name("the name of a namespace's attribute"));
  attribute->children.push_back(std::move(node));
  return finish(std::move(attribute));
}

Result<ExprPtr> Parser::parse_target() {
  const Nesting nesting(nesting_);
  if (nesting_ > kMaxDepth) return fail_at(peek().offset, "targets nest too deep");
  const size_t offset = peek().offset;
  auto first = TRY(parse_single_target());
  if (!at_operator(",")) return first;
  auto tuple = make(ExprKind::kTuple, offset);
  tuple->children.push_back(std::move(first));
  while (take_operator(",")) {
    if (peek().type != TokenType::kName && !at_operator("(")) break;
    if (at_name("in")) break;
    tuple->children.push_back(TRY(parse_single_target()));
  }
  return finish(std::move(tuple));
}

// The leaf that `{% filter %}` and block sets put their text under: a name no template can spell.
static ExprPtr captured_text(ExprPtr node) {
  node->name.clear();
  return node;
}

Result<StmtPtr> Parser::parse_set(StmtPtr s) {
  s->target = TRY(parse_target());
  if (take_operator("=")) {
    s->kind = StmtKind::kSet;
    s->expr = TRY(parse_tuple(true, false));
    if (auto status = end_block("set"); !status) return std::move(status).error();
    return s;
  }
  s->kind = StmtKind::kSetBlock;
  if (at_operator("|"))
    s->expr = TRY(parse_filters_and_tests(captured_text(make(ExprKind::kName, peek().offset))));
  if (peek().type != TokenType::kBlockEnd) return expected("'=' or '%}' after set");
  next();
  s->body = TRY(parse_body({"endset"}, "set", s->offset));
  next();
  if (auto status = end_block("endset"); !status) return std::move(status).error();
  return s;
}

Status Parser::parse_parameters(Stmt& s) {
  if (auto status = expect_operator("("); !status) return status;
  while (!at_operator(")")) {
    if (!s.parameters.empty()) {
      if (auto status = expect_operator(","); !status) return status;
      if (at_operator(")")) break;
    }
    Parameter parameter;
    parameter.name = TRY(expect_name("a parameter's name or ')'"));
    if (take_operator("=")) {
      parameter.otherwise = TRY(parse_expression());
    } else if (!s.parameters.empty() && s.parameters.back().otherwise) {
      return expected("'=' (a parameter after one with a default needs its own)");
    }
    s.parameters.push_back(std::move(parameter));
  }
  next();
  return {};
}

Result<StmtPtr> Parser::parse_macro_body(StmtPtr s, std::string_view end, std::string_view opened) {
  if (auto status = end_block(opened); !status) return std::move(status).error();
  macros_.emplace_back();
  const int outer_loops = std::exchange(loop_depth_, 0);  // break cannot leave a macro
  s->body = TRY(parse_body({end}, opened, s->offset));
  loop_depth_ = outer_loops;
  next();
  s->takes_varargs = macros_.back().varargs;
  s->takes_kwargs = macros_.back().kwargs;
  s->takes_caller = macros_.back().caller;
  macros_.pop_back();
  if (auto status = end_block(end); !status) return std::move(status).error();
  return s;
}

Result<StmtPtr> Parser::parse_macro(StmtPtr s) {
  s->kind = StmtKind::kMacro;
  s->text = TRY(expect_name("the macro's name"));
  if (auto status = parse_parameters(*s); !status) return std::move(status).error();
  return parse_macro_body(std::move(s), "endmacro", "macro");
}

Result<StmtPtr> Parser::parse_call_block(StmtPtr s) {
  s->kind = StmtKind::kCall;
  s->text = "caller";
  if (at_operator("("))
    if (auto status = parse_parameters(*s); !status) return std::move(status).error();
  s->expr = TRY(parse_expression());
  if (s->expr->kind != ExprKind::kCall)
    return fail_at(s->expr->offset, "the call of a macro expected");
  return parse_macro_body(std::move(s), "endcall", "call");
}

Result<StmtPtr> Parser::parse_filter_block(StmtPtr s) {
  s->kind = StmtKind::kFilter;
  s->expr = TRY(parse_filter(captured_text(make(ExprKind::kName, peek().offset))));
  s->expr = TRY(parse_filters_and_tests(std::move(s->expr)));
  if (auto status = end_block("filter"); !status) return std::move(status).error();
  s->body = TRY(parse_body({"endfilter"}, "filter", s->offset));
  next();
  if (auto status = end_block("endfilter"); !status) return std::move(status).error();
  return s;
}

Result<StmtPtr> Parser::parse_with(StmtPtr s) {
  s->kind = StmtKind::kWith;
  while (peek().type != TokenType::kBlockEnd) {
    if (!s->bindings.empty())
      if (auto status = expect_operator(","); !status) return std::move(status).error();
    auto target = TRY(parse_single_target());
    if (auto status = expect_operator("="); !status) return std::move(status).error();
    auto value = TRY(parse_expression());
    s->bindings.emplace_back(std::move(target), std::move(value));
  }
  next();
  s->body = TRY(parse_body({"endwith"}, "with", s->offset));
  next();
  if (auto status = end_block("endwith"); !status) return std::move(status).error();
  return s;
}

}  // namespace venturi::chat
