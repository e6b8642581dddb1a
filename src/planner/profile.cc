#include "planner/profile.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "base/file.h"

namespace venturi {

namespace {

constexpr uint64_t kMaxFileBytes = 4u << 20;
constexpr size_t kMaxRates = 4096;
constexpr double kMostRate = 1e18;
// Of the bounds, where only the bounds are known.
constexpr double kUnmeasuredShare = 0.7;

Json spread_json(const Spread& s) { return {{"median", s.median}, {"low", s.low}, {"high", s.high}}; }

Result<Spread> spread_from(const Fields& fields, const char* name) {
  const Fields f = TRY(fields.object(name));
  Spread s;
  s.low = TRY(f.number("low", 0, kMostRate));
  s.high = TRY(f.number("high", s.low, kMostRate));
  // A rate of nothing would predict eternity.
  s.median = TRY(f.number("median", std::max(s.low, 1e-3), s.high));
  return s;
}

uint64_t bytes_in_flight(const DiskRate& d) {
  return d.in_flight_bytes > 0 ? d.in_flight_bytes : d.request_bytes * static_cast<uint64_t>(d.depth);
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {.median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2,
          .low = values.front(), .high = values.back()};
}

double MachineProfile::noise(std::string* of) const {
  double most = 0;
  const auto note = [&](const Spread& s, std::string what) {
    if (s.relative() <= most) return;
    most = s.relative();
    if (of) *of = std::move(what);
  };
  note(read_bytes_per_second, "memory read");
  note(int8_macs_per_second, "int8 peak");
  note(f32_macs_per_second, "f32 peak");
  for (const MemoryRate& m : memory) note(m.bytes_per_second, fmt::format("memory read by {} threads", m.threads));
  for (const KernelRate& k : kernels) note(k.weights_per_second, fmt::format("{} products of {} rows", k.codec, k.rows));
  for (const DiskRate& d : disk.rates)
    note(d.bytes_per_second, fmt::format("{} {} disk reads, {} deep", d.sequential ? "sequential" : "random",
                                         d.direct ? "direct" : "buffered", d.depth));
  return most;
}

bool MachineProfile::knows(std::string_view codec) const {
  return std::any_of(kernels.begin(), kernels.end(), [&](const KernelRate& k) { return k.codec == codec; });
}

double MachineProfile::weights_per_second(std::string_view codec, double bits_per_weight, bool int8_input, bool packed,
                                          double rows) const {
  rows = std::max(rows, 1.0);
  // Seconds for a weight value at the points measured, by rows.
  std::vector<std::pair<double, double>> points;
  for (const bool as_asked : {true, false}) {  // a codec without a layout has only the one form
    for (const KernelRate& k : kernels)
      if (k.codec == codec && (k.packed == packed) == as_asked)
        points.emplace_back(static_cast<double>(k.rows), 1 / k.weights_per_second.median);
    if (!points.empty()) break;
  }
  std::sort(points.begin(), points.end());
  if (points.empty()) {
    const double macs = (int8_input ? int8_macs_per_second : f32_macs_per_second).median;
    return kUnmeasuredShare * std::min(read_bytes_per_second.median * 8 / bits_per_weight, macs / rows);
  }
  if (rows <= points.front().first) return 1 / points.front().second;
  // Beyond the last point a row costs what it costs on average there.
  if (rows >= points.back().first) return points.back().first / (points.back().second * rows);
  for (size_t i = 1; i < points.size(); ++i) {
    if (rows > points[i].first) continue;
    const auto [r0, t0] = points[i - 1];
    const auto [r1, t1] = points[i];
    return 1 / (t0 + (t1 - t0) * (rows - r0) / (r1 - r0));
  }
  return 1 / points.back().second;
}

double MachineProfile::disk_bytes_per_second(uint64_t request_bytes, int depth, uint64_t in_flight) const {
  const DiskRate* best = nullptr;
  double least = 0;
  for (const DiskRate& d : disk.rates) {
    if (!d.sequential) continue;
    const double distance = std::abs(std::log2(static_cast<double>(d.request_bytes) / static_cast<double>(request_bytes))) +
                            std::abs(std::log2(static_cast<double>(d.depth) / depth)) + (d.direct ? 0 : 100);
    if (best && distance >= least) continue;
    best = &d;
    least = distance;
  }
  if (!best) return 0;
  const double full = best->bytes_per_second.median;
  if (in_flight >= std::min(bytes_in_flight(*best), request_bytes * static_cast<uint64_t>(depth))) return full;
  // Rates by what is in flight, in the requests that give most.
  std::map<uint64_t, double> points;
  for (const DiskRate& d : disk.rates)
    if (d.direct == best->direct) points[bytes_in_flight(d)] = std::max(points[bytes_in_flight(d)], d.bytes_per_second.median);
  const auto above = points.lower_bound(in_flight);
  if (points.size() == 1 || above == points.end()) return full;
  // Less than the least is a request that waits as long.
  if (above == points.begin())
    return std::min(full, above->second * static_cast<double>(in_flight) / static_cast<double>(above->first));
  const auto [low, low_rate] = *std::prev(above);
  const double share = std::log2(static_cast<double>(in_flight) / static_cast<double>(low)) /
                       std::log2(static_cast<double>(above->first) / static_cast<double>(low));
  return std::min(full, low_rate + share * (above->second - low_rate));
}

Json profile_json(const MachineProfile& p) {
  Json json;
  json["format"] = std::string(MachineProfile::kFormat);
  json["version"] = MachineProfile::kVersion;
  json["taken"] = p.taken;
  json["brief"] = p.brief;
  json["threads"] = p.threads;
  json["instruction_set"] = p.instruction_set;
  json["read_bytes_per_second"] = spread_json(p.read_bytes_per_second);
  json["int8_macs_per_second"] = spread_json(p.int8_macs_per_second);
  json["f32_macs_per_second"] = spread_json(p.f32_macs_per_second);
  json["region_seconds"] = p.region_seconds;
  json["memory"] = Json::array();
  for (const MemoryRate& m : p.memory)
    json["memory"].push_back({{"threads", m.threads}, {"bytes_per_second", spread_json(m.bytes_per_second)}});
  json["kernels"] = Json::array();
  for (const KernelRate& k : p.kernels)
    json["kernels"].push_back({{"codec", k.codec}, {"packed", k.packed}, {"rows", k.rows},
                               {"weights_per_second", spread_json(k.weights_per_second)}});
  if (!p.disk.rates.empty()) {
    json["disk"] = {{"path", p.disk.path}, {"backend", p.disk.backend}, {"rates", Json::array()}};
    if (!p.disk.device.empty()) json["disk"]["device"] = p.disk.device;
    for (const DiskRate& d : p.disk.rates) {
      json["disk"]["rates"].push_back({{"sequential", d.sequential}, {"direct", d.direct},
                                       {"request_bytes", d.request_bytes}, {"depth", d.depth},
                                       {"bytes_per_second", spread_json(d.bytes_per_second)}});
      if (d.in_flight_bytes > 0) json["disk"]["rates"].back()["in_flight_bytes"] = d.in_flight_bytes;
    }
  }
  std::string of;
  const double noise = p.noise(&of);
  json["noise"] = noise;
  json["noise_of"] = of;
  return json;
}

Result<MachineProfile> profile_from(const Fields& f) {
  MachineProfile p;
  p.taken = TRY(f.integer("taken", 0, INT64_MAX));
  p.brief = TRY(f.boolean("brief"));
  p.threads = static_cast<int>(TRY(f.integer("threads", 1, 1024)));
  p.instruction_set = TRY(f.text("instruction_set"));
  p.read_bytes_per_second = TRY(spread_from(f, "read_bytes_per_second"));
  p.int8_macs_per_second = TRY(spread_from(f, "int8_macs_per_second"));
  p.f32_macs_per_second = TRY(spread_from(f, "f32_macs_per_second"));
  p.region_seconds = TRY(f.number("region_seconds", 0, 1));
  for (const Fields& m : TRY(f.objects("memory", kMaxRates))) {
    auto& rate = p.memory.emplace_back();
    rate.threads = static_cast<int>(TRY(m.integer("threads", 1, 1024)));
    rate.bytes_per_second = TRY(spread_from(m, "bytes_per_second"));
  }
  for (const Fields& k : TRY(f.objects("kernels", kMaxRates))) {
    auto& rate = p.kernels.emplace_back();
    rate.codec = TRY(k.text("codec"));
    rate.packed = TRY(k.boolean("packed"));
    rate.rows = TRY(k.integer("rows", 1, 1 << 20));
    rate.weights_per_second = TRY(spread_from(k, "weights_per_second"));
  }
  if (f.has("disk")) {
    const Fields disk = TRY(f.object("disk"));
    p.disk.path = TRY(disk.text("path"));
    p.disk.backend = TRY(disk.text("backend"));
    if (disk.has("device")) p.disk.device = TRY(disk.text("device"));
    for (const Fields& d : TRY(disk.objects("rates", kMaxRates))) {
      auto& rate = p.disk.rates.emplace_back();
      rate.sequential = TRY(d.boolean("sequential"));
      rate.direct = TRY(d.boolean("direct"));
      rate.request_bytes = static_cast<uint64_t>(TRY(d.integer("request_bytes", 1, 1 << 30)));
      rate.depth = static_cast<int>(TRY(d.integer("depth", 1, 4096)));
      rate.bytes_per_second = TRY(spread_from(d, "bytes_per_second"));
      if (d.has("in_flight_bytes")) rate.in_flight_bytes = TRY(d.bytes("in_flight_bytes"));
    }
  }
  return p;
}

Result<MachineProfile> parse_profile(std::string_view text, std::string_view path) {
  const Json json = TRY(parse_document(text, path, MachineProfile::kFormat, MachineProfile::kVersion));
  auto profile = profile_from(Fields(json, ""));
  if (!profile) return std::move(profile).error().within(path);
  return profile;
}

std::string device_of(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    if (::stat(folder.empty() ? "." : folder.c_str(), &status) != 0) return "";
  }
  return fmt::format("{}:{}", major(status.st_dev), minor(status.st_dev));
}

std::string stored_profile_path() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache && *cache == '/') return std::string(cache) + "/venturi/profile.json";
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.cache/venturi/profile.json" : "";
}

Result<MachineProfile> read_profile(const std::string& path) {
  return parse_profile(TRY(read_text_file(path, kMaxFileBytes)), path);
}

Status write_profile(const std::string& path, const MachineProfile& profile) {
  const auto folder = std::filesystem::path(path).parent_path();
  std::error_code failure;
  if (!folder.empty()) std::filesystem::create_directories(folder, failure);
  if (failure) return error(Code::kIo, "{}: {}", folder.string(), failure.message());
  AtomicFile file = TRY(AtomicFile::create(path));
  TRY(file.append(profile_json(profile).dump(1, ' ', false, Json::error_handler_t::replace) + "\n"));
  return file.commit();
}

}  // namespace venturi
