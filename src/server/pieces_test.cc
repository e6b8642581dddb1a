#include "server/pieces.h"

#include <gtest/gtest.h>

namespace venturi::server {
namespace {

TEST(Pieces, SayWhatWasAddedWhateverItsCuts) {
  for (const size_t length : {1u, 7u, 1000u, 65'535u, 65'536u, 200'000u}) {
    Pieces pieces;
    std::string expected;
    for (int i = 0; i < 20; ++i) {
      const std::string item(length, static_cast<char>('a' + i));
      pieces.add_item(item);
      expected += (i ? "," : "") + item;
    }
    EXPECT_EQ(pieces.size(), expected.size());
    std::string text = "x";
    pieces.move_to(text);
    EXPECT_EQ(text, "x" + expected);
    EXPECT_EQ(pieces.size(), 0u);
  }
}

}  // namespace
}  // namespace venturi::server
