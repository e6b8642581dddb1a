// Names in the log: once each, so many a minute, for ever.
#include "server/unknown_names.h"

#include <gmock/gmock.h>

namespace venturi::server {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

std::vector<std::string> names(const std::string& with, int n) {
  std::vector<std::string> all;
  for (int i = 0; i < n; ++i) all.push_back(with + std::to_string(i));
  return all;
}

TEST(UnknownNames, EachOnce) {
  UnknownNames told;
  EXPECT_THAT(told.news({"a", "b", "a"}, 100), ElementsAre("a", "b"));
  EXPECT_THAT(told.news({"b", "c"}, 101), ElementsAre("c"));
  EXPECT_THAT(told.news({"a", "b", "c"}, 10000), IsEmpty());
  const std::string longest(UnknownNames::kLength, 'x');
  EXPECT_THAT(told.news({longest + "y", longest + "z"}, 10001), ElementsAre(longest));
}

TEST(UnknownNames, SoManyAMinuteAndAgainInTheNext) {
  UnknownNames told;
  EXPECT_THAT(told.news(names("a", 100), 5000), SizeIs(UnknownNames::kPerMinute));
  EXPECT_TRUE(told.full());
  EXPECT_THAT(told.news({"late"}, 5059), IsEmpty());
  EXPECT_THAT(told.news({"late"}, 5061), ElementsAre("late"));
  EXPECT_FALSE(told.full());
  for (int minute = 0; minute < 100; ++minute) {
    SCOPED_TRACE(minute);
    EXPECT_THAT(told.news(names("m" + std::to_string(minute) + "_", 1000), 6000 + 60 * minute), SizeIs(UnknownNames::kPerMinute));
  }
  EXPECT_THAT(told.news({"a0"}, 20000), ElementsAre("a0"));  // forgotten meanwhile
}

}  // namespace
}  // namespace venturi::server
