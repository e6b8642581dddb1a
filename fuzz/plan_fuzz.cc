// Any bytes as a machine's profile and as a plan: read and found sound, or refused with a reason. What is
// read is written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto dump = [](const venturi::Json& json) {
    return json.dump(-1, ' ', false, venturi::Json::error_handler_t::replace);
  };
  if (const auto profile = venturi::parse_profile(text, "profile")) {
    (void)profile->weights_per_second("Q4_0", 4.5, true, true, 7);
    (void)profile->disk_bytes_per_second(1 << 20, 16);
    if (!venturi::parse_profile(dump(profile_json(*profile)), "profile")) std::abort();
  }
  if (const auto plan = venturi::parse_plan_file(text, "plan"))
    if (!venturi::parse_plan_file(dump(plan_file_json(*plan)), "plan")) std::abort();
  return 0;
}
