// Which pages may use a server without keys.
#include "server/origins.h"

#include <gtest/gtest.h>

namespace venturi::server {
namespace {

std::string why(const Origins& origins, const char* host, const char* origin = "") {
  HttpRequest request;
  request.host = host;
  request.origin = origin;
  const auto error = foreign(origins, request);
  return error ? error->code : "";
}

TEST(Origins, HostsThatAreThisMachine) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "::1", "0:0:0:0:0:0:0:1", "localhost", "LocalHost", "localhost.", "a.localhost"}) EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"", "127.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evillocalhost", "0.0.0.0", "10.0.0.1", "::", "128.0.0.1", "127.0.0.1:80"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

TEST(Origins, ThisMachineByItsOwnNamesAlone) {
  for (const char* host : {"", "127.0.0.1:8080", "localhost:8080", "[::1]:8080", "[::1]", "::1", "localhost"}) EXPECT_EQ(why({}, host), "") << host;
  for (const char* host : {"evil.example", "evil.example:8080", "127.0.0.1.evil.example:8080", "[::2]:80", "[", "]:", ":80"}) EXPECT_EQ(why({}, host), "host_not_allowed") << host;
  EXPECT_EQ(why({.any_host = true}, "box.local:8080"), "");
  const Origins told{.allowed = {"https://llm.example:8443"}};
  EXPECT_EQ(why(told, "llm.example:8443"), "");
  EXPECT_EQ(why(told, "llm.example"), "host_not_allowed");
}

TEST(Origins, OwnPageAndThoseTold) {
  EXPECT_EQ(why({}, "127.0.0.1:8080", "http://127.0.0.1:8080"), "");
  EXPECT_EQ(why({}, "LOCALHOST:8080", "https://localhost:8080"), "");
  for (const char* origin : {"https://evil.example", "http://127.0.0.1:8081", "http://localhost:8080", "null", "http://", "127.0.0.1:8080"})
    EXPECT_EQ(why({}, "127.0.0.1:8080", origin), "origin_not_allowed") << origin;
  EXPECT_EQ(why({.any_host = true}, "box.local:8080", "https://evil.example"), "origin_not_allowed");
  EXPECT_EQ(why({}, "", "http://"), "origin_not_allowed");
  const Origins told{.allowed = {"https://app.example"}};
  EXPECT_EQ(why(told, "127.0.0.1:8080", "https://app.example"), "");
  EXPECT_EQ(why(told, "127.0.0.1:8080", "http://app.example"), "origin_not_allowed");
  EXPECT_EQ(why({.allowed = {"*"}}, "evil.example", "https://evil.example"), "");
}

}  // namespace
}  // namespace venturi::server
