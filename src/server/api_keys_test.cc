// Lines of the key file: what they give, and what is refused without showing a key.
#include "server/api_keys.h"

#include <gmock/gmock.h>

namespace venturi::server {
namespace {

TEST(ApiKeys, LinesGiveKeysWithTheirShares) {
  const auto keys = parse_api_keys("# ours\nalpha\r\n\n  beta weight=3 \ngamma priority=-5 weight=0.5\ndelta\tpriority=100", "keys");
  ASSERT_TRUE(keys) << keys.error().message;
  ASSERT_EQ(keys->size(), 4u);
  const auto expect = [&](size_t i, const char* secret, double weight, int priority) {
    const ApiKey& key = (*keys)[i];
    EXPECT_EQ(key.secret, secret);
    EXPECT_EQ(key.account.name, fmt::format("key {}", i + 1));
    EXPECT_EQ(key.account.weight, weight);
    EXPECT_EQ(key.account.max_priority, priority);
  };
  expect(0, "alpha", 1, 0);
  expect(1, "beta", 3, 0);
  expect(2, "gamma", 0.5, -5);
  expect(3, "delta", 1, 100);
}

TEST(ApiKeys, BadLinesAreRefusedByFileAndNumber) {
  for (const char* rest : {"weight=", "weight=0", "weight=-1", "weight=nan", "weight=inf", "weight=1e9", "weight=2x", "priority=101", "priority=1.5",
                           "priority=", "weigth=2", "secret", "weight=2 more"}) {
    const auto keys = parse_api_keys(fmt::format("# ours\n\nsecret-secret {}\n", rest), "folder/keys");
    ASSERT_FALSE(keys) << rest;
    EXPECT_EQ(keys.error().code, Code::kInvalidArgument);
    EXPECT_THAT(keys.error().message, testing::StartsWith("folder/keys, line 3: ")) << rest;
    EXPECT_THAT(keys.error().message, testing::Not(testing::HasSubstr("secret"))) << rest;
  }
  EXPECT_THAT(parse_api_keys("# none\n", "keys").error().message, testing::HasSubstr("keys holds no API key"));
}

}  // namespace
}  // namespace venturi::server
