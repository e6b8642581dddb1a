// What `inspect --routing` says: how consistent a routing is from token to token, what caches of
// experts would give, and the size they advise.
#pragma once

#include <string>

#include "memory/routing_trace.h"

namespace venturi {

// expert_bytes 0: not known. JSON (one object) or text with tables.
std::string routing_report(const RoutingTrace& trace, uint64_t expert_bytes, bool json);

}  // namespace venturi
