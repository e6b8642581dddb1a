// Expressions, loosest binding first: inline if, or, and, not, comparisons, + -, ~, * / // %, **,
// unary sign, then attributes, subscripts, calls, filters and tests.
#include <charconv>

#include "chat/parser.h"

namespace venturi::chat {

namespace {
ExprPtr with_children(ExprPtr node, ExprPtr a, ExprPtr b = nullptr) {
  node->children.push_back(std::move(a));
  if (b) node->children.push_back(std::move(b));
  return node;
}
ExprPtr named(ExprPtr node, std::string_view name) {
  node->name = name;
  return node;
}
}  // namespace

Result<ExprPtr> Parser::parse_expression() {
  const Nesting nesting(nesting_);
  if (nesting_ > kMaxDepth) return fail_at(peek().offset, "an expression nests too deep");
  auto value = TRY(parse_or());
  while (at_name("if")) {
    auto node = make(ExprKind::kConditional, next().offset);
    auto condition = TRY(parse_or());
    ExprPtr otherwise;
    if (take_name("else")) otherwise = TRY(parse_expression());
    node->children.push_back(std::move(value));
    node->children.push_back(std::move(condition));
    node->children.push_back(std::move(otherwise));
    value = TRY(finish(std::move(node)));
  }
  return value;
}

Result<ExprPtr> Parser::parse_or() {
  auto left = TRY(parse_and());
  if (!at_name("or")) return left;
  auto node = with_children(make(ExprKind::kOr, peek().offset), std::move(left));
  while (take_name("or")) node->children.push_back(TRY(parse_and()));
  return finish(std::move(node));
}

Result<ExprPtr> Parser::parse_and() {
  auto left = TRY(parse_not());
  if (!at_name("and")) return left;
  auto node = with_children(make(ExprKind::kAnd, peek().offset), std::move(left));
  while (take_name("and")) node->children.push_back(TRY(parse_not()));
  return finish(std::move(node));
}

Result<ExprPtr> Parser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Nesting nesting(nesting_);
  if (nesting_ > kMaxDepth) return fail_at(peek().offset, "an expression nests too deep");
  auto node = named(make(ExprKind::kUnary, next().offset), "not");
  auto value = TRY(parse_not());
  return finish(with_children(std::move(node), std::move(value)));
}

Result<ExprPtr> Parser::parse_compare() {
  auto left = TRY(parse_sum());
  auto node = make(ExprKind::kCompare, peek().offset);
  for (;;) {
    constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
    std::string op;
    for (const std::string_view candidate : kOperators)
      if (at_operator(candidate)) op = candidate;
    if (at_name("in")) op = "in";
    if (at_name("not") && peek(1).type == TokenType::kName && peek(1).text == "in") {
      next();
      op = "not in";
    }
    if (op.empty()) break;
    next();
    node->names.push_back(op);
    if (node->children.empty()) node->children.push_back(std::move(left));
    node->children.push_back(TRY(parse_sum()));
  }
  if (node->names.empty()) return left;
  return finish(std::move(node));
}

Result<ExprPtr> Parser::parse_sum() {
  auto left = TRY(parse_concat());
  while (at_operator("+") || at_operator("-")) {
    const Token& op = next();
    auto node = named(make(ExprKind::kBinary, op.offset), op.text);
    auto right = TRY(parse_concat());
    left = TRY(finish(with_children(std::move(node), std::move(left), std::move(right))));
  }
  return left;
}

Result<ExprPtr> Parser::parse_concat() {
  auto left = TRY(parse_product());
  if (!at_operator("~")) return left;
  auto node = with_children(make(ExprKind::kConcat, peek().offset), std::move(left));
  while (take_operator("~")) node->children.push_back(TRY(parse_product()));
  return finish(std::move(node));
}

Result<ExprPtr> Parser::parse_product() {
  auto left = TRY(parse_power());
  while (at_operator("*") || at_operator("/") || at_operator("//") || at_operator("%")) {
    const Token& op = next();
    auto node = named(make(ExprKind::kBinary, op.offset), op.text);
    auto right = TRY(parse_power());
    left = TRY(finish(with_children(std::move(node), std::move(left), std::move(right))));
  }
  return left;
}

Result<ExprPtr> Parser::parse_power() {
  auto left = TRY(parse_unary(true));
  while (at_operator("**")) {
    auto node = named(make(ExprKind::kBinary, next().offset), "**");
    auto right = TRY(parse_unary(true));
    left = TRY(finish(with_children(std::move(node), std::move(left), std::move(right))));
  }
  return left;
}

// A sign binds tighter than a filter: -1|abs is (-1)|abs.
Result<ExprPtr> Parser::parse_unary(bool with_filters) {
  const Nesting nesting(nesting_);
  if (nesting_ > kMaxDepth) return fail_at(peek().offset, "an expression nests too deep");
  ExprPtr value;
  if (at_operator("-") || at_operator("+")) {
    const Token& op = next();
    auto node = named(make(ExprKind::kUnary, op.offset), op.text);
    value = TRY(parse_unary(false));
    value = TRY(finish(with_children(std::move(node), std::move(value))));
  } else {
    value = TRY(parse_primary());
  }
  value = TRY(parse_postfix(std::move(value)));
  if (!with_filters) return value;
  return parse_filters_and_tests(std::move(value));
}

Result<ExprPtr> Parser::parse_primary() {
  const Token& token = peek();
  switch (token.type) {
    case TokenType::kName: {
      next();
      auto node = make(ExprKind::kConstant, token.offset);
      if (token.text == "true" || token.text == "True") {
        node->constant = Value::boolean(true);
      } else if (token.text == "false" || token.text == "False") {
        node->constant = Value::boolean(false);
      } else if (token.text != "none" && token.text != "None") {
        node->kind = ExprKind::kName;
        node->name = token.text;
        if (!macros_.empty()) {
          macros_.back().varargs |= token.text == "varargs";
          macros_.back().kwargs |= token.text == "kwargs";
          macros_.back().caller |= token.text == "caller";
        }
      }
      return node;
    }
    case TokenType::kString: {
      std::string text;
      while (peek().type == TokenType::kString) text += next().text;  // adjacent ones are one
      auto node = make(ExprKind::kConstant, token.offset);
      node->constant = Value(std::make_shared<const TextObject>(Text::trusted(text), nullptr));
      return node;
    }
    case TokenType::kInteger:
    case TokenType::kFloat:
      return parse_number();
    default:
      break;
  }
  if (at_operator("(")) {
    next();
    auto value = TRY(parse_tuple(true, true));
    if (auto status = expect_operator(")"); !status) return std::move(status).error();
    return value;
  }
  if (at_operator("[")) return parse_list();
  if (at_operator("{")) return parse_mapping();
  return expected("a value");
}

Result<ExprPtr> Parser::parse_number() {
  const Token& token = next();
  auto node = make(ExprKind::kConstant, token.offset);
  std::string_view digits = token.text;
  if (token.type == TokenType::kFloat) {
    double value = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (status != std::errc()) return fail_at(token.offset, "this number is out of range");
    node->constant = Value::real(value);
    return node;
  }
  int base = 10;
  if (digits.size() > 1 && digits[0] == '0' && (digits[1] | 32) > '9') {
    base = (digits[1] | 32) == 'x' ? 16 : ((digits[1] | 32) == 'o' ? 8 : 2);
    digits.remove_prefix(2);
  }
  int64_t value = 0;
  const auto [end, status] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (status != std::errc() || end != digits.data() + digits.size())
    return fail_at(token.offset, "this is not a number of 64 bits");
  node->constant = Value::integer(value);
  return node;
}

Result<ExprPtr> Parser::parse_list() {
  auto node = make(ExprKind::kList, next().offset);
  while (!at_operator("]")) {
    if (!node->children.empty()) {
      if (!take_operator(",")) return expected("',' or ']'");
      if (at_operator("]")) break;
    }
    node->children.push_back(TRY(parse_expression()));
  }
  next();
  return finish(std::move(node));
}

Result<ExprPtr> Parser::parse_mapping() {
  auto node = make(ExprKind::kDict, next().offset);
  while (!at_operator("}")) {
    if (!node->children.empty()) {
      if (!take_operator(",")) return expected("',' or '}'");
      if (at_operator("}")) break;
    }
    node->children.push_back(TRY(parse_expression()));
    if (auto status = expect_operator(":"); !status) return std::move(status).error();
    node->children.push_back(TRY(parse_expression()));
  }
  next();
  return finish(std::move(node));
}

bool Parser::at_tuple_end() const {
  const Token& token = peek();
  if (token.type == TokenType::kPrintEnd || token.type == TokenType::kBlockEnd) return true;
  return at_operator(")") || at_operator("]") || at_operator("=") || at_name("in") ||
         at_name("recursive") || at_name("if");
}

Result<ExprPtr> Parser::parse_tuple(bool conditional, bool in_parentheses) {
  auto tuple = make(ExprKind::kTuple, peek().offset);
  if (in_parentheses && at_operator(")")) return tuple;
  auto first = TRY(conditional ? parse_expression() : parse_or());
  if (!at_operator(",")) return first;
  tuple->children.push_back(std::move(first));
  while (take_operator(",")) {
    if (at_tuple_end()) break;
    tuple->children.push_back(TRY(conditional ? parse_expression() : parse_or()));
  }
  return finish(std::move(tuple));
}

Result<ExprPtr> Parser::parse_postfix(ExprPtr value) {
  for (;;) {
    if (at_operator(".")) {
      auto node = make(ExprKind::kAttribute, next().offset);
      if (peek().type == TokenType::kInteger) {  // a.0 is a[0]
        node->kind = ExprKind::kItem;
        auto index = TRY(parse_number());
        value = TRY(finish(with_children(std::move(node), std::move(value), std::move(index))));
        continue;
      }
      node->name = TRY(expect_name("an attribute's name"));
      value = TRY(finish(with_children(std::move(node), std::move(value))));
    } else if (at_operator("[")) {
      value = TRY(parse_subscript(std::move(value)));
    } else if (at_operator("(")) {
      auto node = with_children(make(ExprKind::kCall, peek().offset), std::move(value));
      if (auto status = parse_args(*node); !status) return std::move(status).error();
      value = TRY(finish(std::move(node)));
    } else {
      return value;
    }
  }
}

Result<ExprPtr> Parser::parse_subscript(ExprPtr value) {
  auto node = make(ExprKind::kItem, next().offset);
  node->children.push_back(std::move(value));
  ExprPtr parts[3];
  size_t part = 0;
  bool is_slice = false;
  while (!at_operator("]")) {
    if (take_operator(":")) {
      is_slice = true;
      if (++part > 2) return expected("']'");
    } else if (parts[part] == nullptr) {
      parts[part] = TRY(is_slice ? parse_expression() : parse_tuple(true, false));
    } else {
      return expected(is_slice ? "':' or ']'" : "']'");
    }
  }
  if (!is_slice && parts[0] == nullptr) return expected("an index");
  next();
  if (is_slice) node->kind = ExprKind::kSlice;
  for (size_t i = 0; i < (is_slice ? 3 : 1); ++i) node->children.push_back(std::move(parts[i]));
  return finish(std::move(node));
}

Status Parser::parse_args(Expr& call) {
  next();  // (
  bool named_seen = false;
  while (!at_operator(")")) {
    if (!call.args.empty()) {
      if (!take_operator(",")) return expected("',' or ')'");
      if (at_operator(")")) break;
    }
    Arg arg;
    if (take_operator("*")) {
      arg.kind = Arg::Kind::kSpread;
    } else if (take_operator("**")) {
      arg.kind = Arg::Kind::kSpreadNamed;
    } else if (peek().type == TokenType::kName && peek(1).type == TokenType::kOperator &&
               peek(1).text == "=") {
      arg.kind = Arg::Kind::kNamed;
      arg.name = next().text;
      next();
    } else if (named_seen) {
      return expected("a named argument (one came before)");
    }
    named_seen |= arg.kind == Arg::Kind::kNamed || arg.kind == Arg::Kind::kSpreadNamed;
    arg.value = TRY(parse_expression());
    call.args.push_back(std::move(arg));
  }
  next();
  return {};
}

Result<ExprPtr> Parser::parse_filters_and_tests(ExprPtr value) {
  for (;;) {
    if (take_operator("|")) {
      value = TRY(parse_filter(std::move(value)));
    } else if (at_name("is")) {
      value = TRY(parse_test(std::move(value)));
    } else if (at_operator("(")) {  // the result of a filter is called
      value = TRY(parse_postfix(std::move(value)));
    } else {
      return value;
    }
  }
}

Result<ExprPtr> Parser::parse_filter(ExprPtr value) {
  auto node = with_children(make(ExprKind::kFilter, peek().offset), std::move(value));
  node->name = TRY(expect_name("a filter's name"));
  if (at_operator("("))
    if (auto status = parse_args(*node); !status) return std::move(status).error();
  return finish(std::move(node));
}

// x is [not] NAME, NAME(args) or NAME arg
Result<ExprPtr> Parser::parse_test(ExprPtr value) {
  next();  // is
  const size_t offset = peek().offset;
  const bool negated = take_name("not");
  auto node = with_children(make(ExprKind::kTest, offset), std::move(value));
  node->name = TRY(expect_name("a test's name"));
  const TokenType type = peek().type;
  const bool at_value = type == TokenType::kString || type == TokenType::kInteger ||
                        type == TokenType::kFloat || at_operator("[") || at_operator("{") ||
                        (type == TokenType::kName && !at_name("else") && !at_name("or") &&
                         !at_name("and") && !at_name("is") && !at_name("if") && !at_name("in") &&
                         !at_name("not") && !at_name("recursive"));
  if (at_operator("(")) {
    if (auto status = parse_args(*node); !status) return std::move(status).error();
  } else if (at_value) {
    Arg arg;
    arg.value = TRY(parse_primary());
    arg.value = TRY(parse_postfix(std::move(arg.value)));
    node->args.push_back(std::move(arg));
  }
  auto test = TRY(finish(std::move(node)));
  if (!negated) return test;
  return finish(with_children(named(make(ExprKind::kUnary, offset), "not"), std::move(test)));
}

}  // namespace venturi::chat
