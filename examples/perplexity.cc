// How well a model foresees a text, from the logits themselves: perplexity MODEL FILE
//
// The mean over the text's tokens, in pieces of 256, of -log p(token | those before it in its
// piece).
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <venturi/venturi.hpp>

namespace {

constexpr int64_t kPiece = 256;

double log_probability(std::span<const float> logits, venturi::Token token) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  return logits[static_cast<size_t>(token)] - top - std::log(sum);
}

int fail(const venturi::Failure& failure) {
  std::cerr << failure.message << "\n";
  return failure.code;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: perplexity MODEL FILE\n";
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};

  auto model =
      venturi::Model::open(argv[1], {.context = kPiece, .batch = kPiece, .outputs = kPiece});
  if (!model) return fail(model.error());
  const auto tokens = model->tokenize(text, 0);
  if (!tokens) return fail(tokens.error());
  auto sequence = model->new_sequence();
  if (!sequence) return fail(sequence.error());

  const auto width = static_cast<size_t>(model->info().output_width);
  double nll = 0;
  size_t counted = 0;
  for (size_t begin = 0; begin < tokens->size(); begin += kPiece) {
    const auto piece =
        std::span(*tokens).subspan(begin, std::min<size_t>(kPiece, tokens->size() - begin));
    sequence->truncate(0);
    const auto logits = sequence->eval(piece, piece.size());
    if (!logits) return fail(logits.error());
    for (size_t i = 0; i + 1 < piece.size(); ++i, ++counted)
      nll -= log_probability((*logits).subspan(i * width, width), piece[i + 1]);
  }
  if (counted == 0) return fail({VENTURI_INVALID_ARGUMENT, "the text has less than two tokens"});
  std::cout.precision(9);
  std::cout << std::exp(nll / static_cast<double>(counted)) << "\n";
}
