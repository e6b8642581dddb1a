// The file of API keys: `KEY [weight=W] [priority=P]` on a line; empty lines and those that begin with # are passed over.
//
// W, from 0.001 to 1000, is the share of the machine that the key has beside others (1); P, from -100 to 100, how much
// of the priority of its requests counts before other keys' (0). Errors name file and line, never a key.
#pragma once

#include "server/app.h"

namespace venturi::server {

Result<std::vector<ApiKey>> parse_api_keys(std::string_view text, const std::string& file);
Result<std::vector<ApiKey>> read_api_keys(const std::string& file);

}  // namespace venturi::server
