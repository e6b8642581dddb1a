// A byte trie over the texts of tokens: the longest, or every, token that a text starts with.
// Built once, then read by any thread. A node's children lie side by side, in order of their byte.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace venturi {

class Trie {
 public:
  using Node = uint32_t;
  static constexpr Node kRoot = 0;
  static constexpr Node kNone = ~Node{0};

  Trie() : Trie(std::vector<std::pair<std::string_view, int32_t>>()) {}
  // Empty keys are left out; of equal keys the first in the list stays.
  explicit Trie(std::vector<std::pair<std::string_view, int32_t>> keys);

  Node step(Node node, char byte) const {
    const uint32_t first = nodes_[node].first_child;
    const void* hit = std::memchr(labels_.data() + first, static_cast<unsigned char>(byte),
                                  nodes_[node].n_children);
    if (hit == nullptr) return kNone;
    return static_cast<Node>(static_cast<const char*>(hit) - labels_.data());
  }
  int32_t value(Node node) const { return nodes_[node].value; }  // -1 if no key ends here

  struct Match {
    int32_t value = -1;
    size_t length = 0;
  };
  // The longest key that text.substr(at) starts with; value -1 if none.
  Match longest(std::string_view text, size_t at) const;

 private:
  struct Entry {
    uint32_t first_child = 0;
    uint32_t n_children = 0;
    int32_t value = -1;
  };
  std::vector<Entry> nodes_;
  std::vector<char> labels_;  // labels_[n] leads to node n
};

}  // namespace venturi
