#include "grammar/constraint.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "formats/model_file.h"
#include "grammar/json_schema.h"
#include "grammar/test_support.h"

namespace venturi::grammar {
namespace {

class ConstraintTest : public testing::Test {
 protected:
  void SetUp() override {
    auto file = open_gguf(VENTURI_SOURCE_DIR "/models/tiny-llama-q8_0.gguf");
    ASSERT_TRUE(file.ok());
    auto made = Tokenizer::from_metadata((*file)->metadata);
    ASSERT_TRUE(made.ok());
    tokenizer = std::move(made).value();
    trie = std::make_shared<TokenTrie>(*tokenizer);
    auto automaton = Automaton::compile(json_object_grammar());
    ASSERT_TRUE(automaton.ok());
    json = *automaton;
  }
  std::vector<float> mask(Constraint& c) {
    std::vector<float> logits(static_cast<size_t>(tokenizer->vocab_size()), 1.0f);
    EXPECT_TRUE(c.mask(logits).ok());
    return logits;
  }
  std::unique_ptr<Tokenizer> tokenizer;
  std::shared_ptr<const TokenTrie> trie;
  std::shared_ptr<const Automaton> json;
};

TEST_F(ConstraintTest, MaskIsWhatEveryTokenAloneSays) {
  std::mt19937 random(5);
  for (int round = 0; round < 6; ++round) {
    Constraint c(json, trie, {.max_sets = round % 2 ? size_t{16} : size_t{8192}});
    Matcher m(json);
    Matcher::Set set = m.start();
    for (int step = 0; step < 60; ++step) {
      const std::vector<float> logits = mask(c);
      std::vector<TokenId> may;
      for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
        bool allowed = false;
        const TokenKind kind = tokenizer->kind(id);
        if (tokenizer->is_end_of_generation(id)) {
          allowed = m.accepts(set);
        } else if (kind == TokenKind::kNormal || kind == TokenKind::kByte || kind == TokenKind::kUserDefined) {
          Matcher::Set s = set;
          for (const char b : tokenizer->piece(id)) s = m.next(s, static_cast<uint8_t>(b));
          allowed = s != Matcher::kDead && !tokenizer->piece(id).empty();
        }
        ASSERT_EQ(std::isinf(logits[id]), !allowed) << "step " << step << " token " << id << " " << tokenizer->token_text(id);
        if (allowed && !tokenizer->is_end_of_generation(id)) may.push_back(id);
      }
      if (may.empty()) break;
      const TokenId id = may[random() % may.size()];
      ASSERT_TRUE(c.accept(id).ok());
      for (const char b : tokenizer->piece(id)) set = m.next(set, static_cast<uint8_t>(b));
    }
  }
}

TEST_F(ConstraintTest, RefusesWhatMayNotComeAndStaysAsItWas) {
  Constraint c(json, trie);
  const auto letter = tokenizer->find("x");
  ASSERT_TRUE(letter);
  EXPECT_FALSE(c.accept(*letter).ok());
  EXPECT_FALSE(c.accept(*tokenizer->eos()).ok());
  EXPECT_FALSE(c.accept(-1).ok());
  EXPECT_FALSE(c.accept(1 << 30).ok());
  for (const TokenId id : tokenizer->encode("{}", {.add_special = false})) {
    // The scheme puts a blank in front, which the grammar has no place for.
    const std::string piece = tokenizer->piece(id);
    if (piece != " ") { EXPECT_EQ(c.accept(id).ok(), piece[0] != ' ') << piece; }
  }
  (void)mask(c);
}

TEST_F(ConstraintTest, EndsWhenTheTextIsWhole) {
  auto grammar = parse_gbnf("root ::= \"a\" \"b\"?");
  ASSERT_TRUE(grammar.ok());
  auto automaton = Automaton::compile(*grammar);
  ASSERT_TRUE(automaton.ok());
  Constraint c(*automaton, trie);
  EXPECT_FALSE(c.complete());
  ASSERT_TRUE(c.accept(*tokenizer->find("a")).ok());
  EXPECT_TRUE(c.complete());
  EXPECT_FALSE(c.finished());
  ASSERT_TRUE(c.accept(*tokenizer->find("b")).ok());
  EXPECT_TRUE(c.finished());
  ASSERT_TRUE(c.accept(*tokenizer->eos()).ok());
  EXPECT_FALSE(c.accept(*tokenizer->eos()).ok());
}

// Grammars that are ambiguous to the utmost stay within their limits.
TEST_F(ConstraintTest, AmbiguityIsBounded) {
  for (const char* text : {"root ::= ([a-z]* [a-z]*)* \".\"", "root ::= (a | b)* \".\"\na ::= [a-z]+ a?\nb ::= [a-z] (b | a)?",
                           "root ::= \"x\"{0,5000} [a-z]{0,5000} .{0,5000}"}) {
    auto grammar = parse_gbnf(text);
    ASSERT_TRUE(grammar.ok());
    auto automaton = Automaton::compile(*grammar);
    ASSERT_TRUE(automaton.ok());
    Constraint c(*automaton, trie);
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 5; ++i) {
      (void)mask(c);
      ASSERT_TRUE(c.accept(*tokenizer->find("x")).ok());
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60)) << text;
  }
}

}  // namespace
}  // namespace venturi::grammar
