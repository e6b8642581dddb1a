// venturi inspect: what is in a file, and how a mixture routes a text.
#include "cli/command.h"
#include "base/file.h"
#include "cli/flags.h"
#include "cli/prompt.h"
#include "cli/routing_report.h"
#include "cli/text.h"
#include "formats/model_file.h"
#include "formats/overwrite.h"
#include "models/architecture.h"
#include "ops/order.h"
#include "ops/route_replay.h"

#include <nlohmann/json.hpp>

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  TextFlags text;
  std::string routes, save_routes;
  bool json = false, tensors = false, activations = false, routing = false;
};

constexpr uint64_t kShownElements = 8;

// Long arrays are shown by type, length and their first elements.
nlohmann::json value_json(const Metadata& metadata, const std::string& key, const MetaValue& value) {
  if (value.type == MetaType::kArray) {
    const auto& array = std::get<MetaArray>(value.value);
    nlohmann::json first = nlohmann::json::array();
    if (array.element == MetaType::kString) {
      if (auto strings = metadata.get_strings(key))
        for (size_t i = 0; i < strings->size() && i < kShownElements; ++i) first.push_back(std::string((*strings)[i]));
    } else if (array.element == MetaType::kF32 || array.element == MetaType::kF64) {
      if (auto floats = metadata.get_floats(key))
        for (size_t i = 0; i < floats->size() && i < kShownElements; ++i) first.push_back((*floats)[i]);
    } else if (auto ints = metadata.get_ints(key)) {
      for (size_t i = 0; i < ints->size() && i < kShownElements; ++i) first.push_back((*ints)[i]);
    }
    return {{"count", array.count}, {"first", first}};
  }
  return std::visit(
      [](const auto& v) -> nlohmann::json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, MetaArray>) {
          return nullptr;
        } else {
          return v;
        }
      },
      value.value);
}

// Routes of as much of the text as the context holds, as one sequence.
Result<RoutingTrace> observe_routes(Engine& engine, const std::string& text) {
  auto gates = mixture_gates(engine.catalog());
  if (gates.empty())
    return error(Code::kUnsupported, "{} has no mixture of experts: it does not route", engine.file().path);
  for (const Weight* gate : gates)
    if (gate->n_planes != gates[0]->n_planes)
      return error(Code::kUnsupported, "the layers of {} differ in their numbers of experts", engine.file().path);
  std::vector<TokenId> tokens = TRY(encode_text(engine, text));
  if (tokens.empty()) return error(Code::kInvalidArgument, "the text is empty: give one with -f FILE or -p TEXT");
  if (static_cast<int64_t>(tokens.size()) > engine.options().context) tokens.resize(static_cast<size_t>(engine.options().context));
  RouteRecorder recorder(std::move(gates));
  auto sequence = TRY(engine.new_sequence());
  engine.context().set_observer(&recorder);
  const auto fed = engine.feed(*sequence, tokens);
  engine.context().set_observer(nullptr);
  if (!fed) return fed.error();
  return recorder.trace();
}

// Bytes of one expert of one layer in the file.
uint64_t expert_bytes(const WeightCatalog& catalog) {
  uint64_t bytes = 0;
  const auto gates = mixture_gates(catalog);
  for (const auto& w : catalog.matrices())
    if (w->n_planes > 1 && w->name.find("_exps") != std::string::npos) bytes += w->file_bytes() / w->n_planes;
  return gates.empty() ? 0 : bytes / gates.size();
}

Status run_routing(const Options& o) {
  RoutingTrace trace;
  uint64_t bytes = 0;
  if (o.routes.empty()) {
    auto engine = TRY(o.model.open());
    if (!o.save_routes.empty()) TRY(refuse_overwrite(engine->file(), o.save_routes));
    trace = TRY(observe_routes(*engine, TRY(o.text.text())));
    bytes = expert_bytes(engine->catalog());
  } else {
    trace = TRY(read_routing_trace(o.routes));
  }
  if (!o.save_routes.empty()) {
    if (is_same_file(o.save_routes, o.text.file))
      return error(Code::kInvalidArgument, "--save-routes {} is the text; write to another place", o.save_routes);
    AtomicFile file = TRY(AtomicFile::create(o.save_routes));
    TRY(file.append(format_routing_trace(trace)));
    TRY(file.commit());
  }
  print_out(routing_report(trace, bytes, o.json));
  return {};
}

Status run(const Options& o) {
  if (o.routing || !o.routes.empty()) return run_routing(o);
  const auto file = TRY(open_model(TRY(o.model.path())));
  std::map<std::string, std::pair<uint64_t, uint64_t>> by_type;  // type -> tensors, bytes
  uint64_t bytes = 0, parameters = 0;
  for (const TensorInfo& t : file->tensors) {
    auto& [count, size] = by_type[std::string(t.codec->name)];
    ++count;
    size += t.bytes();
    bytes += t.bytes();
    parameters += static_cast<uint64_t>(t.n_values());
  }
  nlohmann::ordered_json json;
  json["file"] = file->path;
  json["parameters"] = parameters;
  json["tensor_bytes"] = bytes;
  for (const auto& [type, totals] : by_type) json["types"][type] = {{"tensors", totals.first}, {"bytes", totals.second}};
  for (const auto& [key, value] : file->metadata.entries()) json["metadata"][key] = value_json(file->metadata, key, value);
  json["tensors"] = nlohmann::json::array();
  for (const TensorInfo& t : file->tensors) {
    nlohmann::ordered_json row;
    row["name"] = t.name;
    row["type"] = std::string(t.codec->name);
    row["dims"] = t.dims;
    row["bytes"] = t.bytes();
    json["tensors"].push_back(std::move(row));
  }
  const auto dump = [](const nlohmann::ordered_json& j, int indent) {
    return j.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  if (o.json) {
    print_out(dump(json, 1) + "\n");
    return {};
  }
  std::string out = fmt::format("{}: {} tensors, {:.1f} M parameters, {}\n", file->path, file->tensors.size(),
                                parameters / 1e6, format_bytes(bytes));
  std::vector<std::vector<std::string>> rows = {{"type", "tensors", "bytes", "bits per weight"}};
  for (const auto& [type, totals] : by_type)
    rows.push_back({type, std::to_string(totals.first), format_bytes(totals.second),
                    fmt::format("{:.4g}", find_codec(type)->bits_per_weight())});
  out += markdown_table(rows) + "\n";
  for (const auto& [key, value] : file->metadata.entries()) {
    std::string text = dump(value_json(file->metadata, key, value), -1);
    if (text.size() > 120) text = text.substr(0, 117) + "...";
    out += fmt::format("{} = {}\n", printable(key, Breaks::kEscaped), printable(text, Breaks::kEscaped));
  }
  if (o.tensors) {
    rows = {{"tensor", "type", "dims", "bytes"}};
    for (const TensorInfo& t : file->tensors) {
      std::string dims;
      for (const int64_t d : t.dims) dims += fmt::format("{}{}", dims.empty() ? "" : " x ", d);
      rows.push_back({printable(t.name, Breaks::kEscaped), std::string(t.codec->name), dims, format_bytes(t.bytes())});
    }
    out += "\n" + markdown_table(rows);
  }
  print_out(out);
  return {};
}

// What the activations of a step take, by how its blocks are placed and its operators ordered. Needs the header only.
Status show_activations(const Options& o) {
  const auto file = TRY(open_model(TRY(o.model.path())));
  WeightCatalog catalog(*file);
  const auto model = TRY(create_model(*file, catalog));
  const int64_t positions = model->info().max_context;
  const int64_t context_tokens = positions > 0 ? std::min<int64_t>(positions, 2048) : 2048;
  nlohmann::ordered_json json;
  json["context"] = context_tokens;
  json["activations"] = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows = {
      {"rows of a step", "rows of a tile", "blocks", "first fit", "greedy", "exact", "proved", "live at one time", "operators",
       "best order, placed", "no order below", "less than greedy"}};
  for (const int64_t n : {int64_t{1}, int64_t{64}, int64_t{512}}) {
    for (const int64_t tile : {int64_t{0}, Context::kRowTile}) {
      if (n > context_tokens || (tile > 0 && n <= tile)) continue;
      Step step;
      step.tokens.assign(static_cast<size_t>(n), 0);
      step.spans = {{.row_begin = 0, .n_rows = n, .position = context_tokens - n, .state = nullptr}};
      step.output_rows = {n - 1};
      const auto context = Context::shape(default_thread_count());
      context->set_row_tile(tile);
      (void)model->forward(*context, step);
      const std::vector<Block> blocks = context->arena().trace();
      const ExactPlacement exact = place_exact(blocks);
      const uint64_t first_fit = place_first_fit(blocks).peak, greedy = place_greedy(blocks).peak;
      const uint64_t live = live_peak(blocks);
      const OperatorGraph graph = operators_of(*context);
      const ExactOrder order = find_order(graph);
      const uint64_t ordered = place_exact(blocks_in_order(graph, order.order)).placement.peak;
      const uint64_t saved = greedy - std::min(greedy, ordered);
      json["activations"].push_back({{"rows", n}, {"row_tile", tile}, {"blocks", blocks.size()},
                                     {"first_fit", first_fit}, {"greedy", greedy},
                                     {"exact", exact.placement.peak}, {"proved", exact.proved}, {"live", live},
                                     {"operators", graph.operators.size()}, {"ordered", ordered},
                                     {"order_bound", order.bound}, {"order_states", order.states}, {"saved", saved}});
      rows.push_back({std::to_string(n), tile > 0 ? std::to_string(tile) : "all", std::to_string(blocks.size()),
                      format_bytes(first_fit), format_bytes(greedy), format_bytes(exact.placement.peak),
                      exact.proved ? "yes" : "no", format_bytes(live), std::to_string(graph.operators.size()),
                      format_bytes(ordered), format_bytes(order.bound), format_bytes(saved)});
    }
  }
  print_out(o.json ? json.dump(1) + "\n" : markdown_table(rows));
  return {};
}

}  // namespace

extern const Command command_inspect;
const Command command_inspect{"inspect", "Show what is in a model file: metadata, tensors, bytes by type",
                              [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  o->model.add(app);
  app.add_flag("--json", o->json, "JSON, tensors included");
  app.add_flag("--activations", o->activations, "bytes of a step's activations, by how they are placed and the operators ordered");
  auto* tensors = app.add_flag("--tensors", o->tensors, "list every tensor");
  auto* routing = app.add_flag("--routing", o->routing,
                               "how consistently a mixture routes a text (-f, -p), and the cache of experts that it advises");
  auto* routes = app.add_option("--routes", o->routes, "the same of a trace file, without a model");
  o->text.add(app, "--routing: the text");
  app.add_option("--save-routes", o->save_routes, "write the routes of --routing to a trace file")->needs(routing);
  routing->excludes(tensors)->excludes(routes);
  routes->excludes(tensors);
  for (const char* flag : {"--prompt", "--file", "--memory", "--ctx", "--batch", "--threads", "--no-repack"})
    app.get_option(flag)->needs(routing);
  return [o] {
    return o->activations ? show_activations(*o) : run(*o);
  };
}};

}  // namespace venturi
