// Who may use a server that asks for no key: programs, its own page, and pages of the origins that it is told of.
//
// A browser lets any page send a request to a server on its machine (with an Origin), and lets a page whose name is made to
// stand for that machine read the answer too (its name is then the Host).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/fields.h"
#include "server/http.h"

namespace venturi::server {

// An address, or localhost and what is below it.
bool is_loopback(std::string_view host);

struct Origins {
  std::vector<std::string> allowed = {};  // such as https://example.org; "*": all
  bool any_host = false;                  // the server can be reached from outside, by names that it does not know
};

// Why a request is none that may be answered: a 403.
std::optional<ApiError> foreign(const Origins& origins, const HttpRequest& request);

}  // namespace venturi::server
