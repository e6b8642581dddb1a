#include "server/strangers.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace venturi::server {
namespace {

TEST(Strangers, TheFirstFromWhereMostComeGivesWay) {
  Strangers strangers;
  EXPECT_FALSE(strangers.drop_one());
  std::vector<std::unique_ptr<Strangers::Place>> places;
  std::vector<size_t> gone;
  for (const char* peer : {"a", "b", "c", "b", "b", "a"})
    places.push_back(std::make_unique<Strangers::Place>(strangers, peer, [&gone, i = places.size()] { gone.push_back(i); }));
  EXPECT_EQ(strangers.size(), 6u);
  EXPECT_TRUE(strangers.drop_one());
  EXPECT_EQ(gone, std::vector<size_t>{1});
  places[1].reset();  // it has left already
  EXPECT_EQ(strangers.size(), 5u);
  places[4].reset();
  // Two of a, one of b, one of c.
  EXPECT_TRUE(strangers.drop_one());
  EXPECT_EQ(gone, (std::vector<size_t>{1, 0}));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(strangers.drop_one());
  EXPECT_FALSE(strangers.drop_one());
  EXPECT_EQ(gone.size(), 5u);
  EXPECT_EQ(strangers.size(), 0u);
}

}  // namespace
}  // namespace venturi::server
