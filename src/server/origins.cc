#include "server/origins.h"

#include <arpa/inet.h>

#include <algorithm>

namespace venturi::server {

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// "example.org:8080" of "https://example.org:8080".
std::string_view authority(std::string_view origin) {
  const size_t at = origin.find("://");
  return at == std::string_view::npos ? std::string_view() : origin.substr(at + 3);
}

// "::1" of "[::1]:8080".
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, std::min(host.find(']'), host.size()) - 1);
  if (host.find(':') != host.rfind(':')) return host;  // an address without its brackets, as some clients write it
  return host.substr(0, host.find(':'));
}

}  // namespace

bool is_loopback(std::string_view host) {
  std::string name = lower(host);
  if (name.ends_with('.')) name.pop_back();
  if (name == "localhost" || name.ends_with(".localhost")) return true;
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, name.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  return inet_pton(AF_INET6, name.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

std::optional<ApiError> foreign(const Origins& origins, const HttpRequest& request) {
  const auto refuse = [](std::string message, const char* code) {
    return ApiError{.status = 403, .type = "permission_error", .message = std::move(message), .code = code};
  };
  const auto allowed = [&](const auto& is) { return std::any_of(origins.allowed.begin(), origins.allowed.end(), [&](const std::string& one) { return one == "*" || is(one); }); };
  const std::string host = lower(request.host);
  if (!host.empty() && !origins.any_host && !is_loopback(without_port(host)) &&
      !allowed([&](const std::string& one) { return lower(authority(one)) == host; }))
    return refuse(fmt::format("this server, which asks for no key, is not known as {}; give --cors-origin with that name, or --api-key-file", request.host),
                  "host_not_allowed");
  const std::string& origin = request.origin;
  if (!origin.empty() && (host.empty() || lower(authority(origin)) != host) && !allowed([&](const std::string& one) { return one == origin; }))
    return refuse(fmt::format("pages of {} may not use this server, which asks for no key; give --cors-origin {}, or --api-key-file", origin, origin),
                  "origin_not_allowed");
  return std::nullopt;
}

}  // namespace venturi::server
