// Tokens to tree. Errors name line, column, what was expected and what was found.
//
// Nesting is bounded (kMaxDepth for expressions and for blocks), since everything after recurses
// over the tree.
#pragma once

#include <string_view>
#include <vector>

#include "chat/ast.h"
#include "chat/lexer.h"

namespace venturi::chat {

class Parser {
 public:
  static constexpr int kMaxDepth = 150;

  Parser(std::string_view source, std::vector<Token> tokens)
      : source_(source), tokens_(std::move(tokens)) {}
  Result<Body> parse_template();

 private:
  // parser.cc: statements
  Result<Body> parse_body(std::initializer_list<std::string_view> ends, std::string_view opened,
                          size_t opened_at);
  Result<StmtPtr> parse_statement();
  Result<StmtPtr> parse_for(StmtPtr s);
  Result<StmtPtr> parse_if(StmtPtr s);
  Result<StmtPtr> parse_set(StmtPtr s);
  Result<StmtPtr> parse_macro(StmtPtr s);
  Result<StmtPtr> parse_call_block(StmtPtr s);
  Result<StmtPtr> parse_filter_block(StmtPtr s);
  Result<StmtPtr> parse_with(StmtPtr s);
  Result<StmtPtr> parse_macro_body(StmtPtr s, std::string_view end, std::string_view opened);
  Status parse_parameters(Stmt& s);
  Status end_block(std::string_view name);
  Result<ExprPtr> parse_target();
  Result<ExprPtr> parse_single_target();

  // parser_expression.cc
  Result<ExprPtr> parse_expression();  // with inline if
  Result<ExprPtr> parse_or();
  Result<ExprPtr> parse_and();
  Result<ExprPtr> parse_not();
  Result<ExprPtr> parse_compare();
  Result<ExprPtr> parse_sum();
  Result<ExprPtr> parse_concat();
  Result<ExprPtr> parse_product();
  Result<ExprPtr> parse_power();
  Result<ExprPtr> parse_unary(bool with_filters);
  Result<ExprPtr> parse_primary();
  Result<ExprPtr> parse_number();
  Result<ExprPtr> parse_list();
  Result<ExprPtr> parse_mapping();
  Result<ExprPtr> parse_postfix(ExprPtr value);
  Result<ExprPtr> parse_subscript(ExprPtr value);
  Result<ExprPtr> parse_filters_and_tests(ExprPtr value);
  Result<ExprPtr> parse_filter(ExprPtr value);
  Result<ExprPtr> parse_test(ExprPtr value);
  Status parse_args(Expr& call);
  // `a` or `a, b, …`; `conditional` allows inline if in each.
  Result<ExprPtr> parse_tuple(bool conditional, bool in_parentheses);
  bool at_tuple_end() const;

  // Both files.
  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool at_operator(std::string_view op) const;
  bool at_name(std::string_view name) const;
  bool take_operator(std::string_view op);
  bool take_name(std::string_view name);
  Status expect_operator(std::string_view op);
  Result<std::string> expect_name(std::string_view what);
  Error expected(std::string_view what) const;
  Error fail_at(size_t offset, std::string_view message) const;
  ExprPtr make(ExprKind kind, size_t offset) const;
  Result<ExprPtr> finish(ExprPtr node) const;  // sets depth and checks it

  std::string_view source_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;     // of parse_expression, parse_unary and blocks
  int loop_depth_ = 0;  // break and continue need one
  struct MacroUse {
    bool varargs = false, kwargs = false, caller = false;
  };
  std::vector<MacroUse> macros_;  // being parsed
};

// Counts a level while it lives.
class Nesting {
 public:
  explicit Nesting(int& level) : level_(++level) {}
  ~Nesting() { --level_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& level_;
};

}  // namespace venturi::chat
