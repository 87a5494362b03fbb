#include "bench/replay_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "bench/median.h"

namespace bitacora::bench {
namespace {

constexpr double kMillion = 1e6;
constexpr double kMebibyte = 1024.0 * 1024.0;

double count(std::uint64_t number) { return static_cast<double>(number); }

template <class Runs, class Value>
double median_of(const Runs& runs, Value value) {
  std::vector<double> values;
  for (const auto& run : runs) values.push_back(value(run));
  return median(std::move(values));
}

// Nothing when the processes could not be seen.
template <class Runs>
std::optional<double> median_cpu(const Runs& runs, const std::string& role) {
  if (runs.empty() || !runs.front().cpu.contains(role)) return std::nullopt;
  return median_of(runs, [&](const auto& run) { return run.cpu.at(role); });
}

struct Summary {
  double seconds = 0;
  double rows = 0;
  double transactions = 0;
  double bytes = 0;
  std::optional<double> receiver_cpu;  // seconds
  std::optional<double> standby_cpu;
  std::vector<double> group_milliseconds;
  double peak_memory_bytes = 0;
  int exact_path_retries = 0;
};

Summary summary_of(const ReplayWay& way) {
  Summary summary;
  const auto& runs = way.runs;
  summary.seconds = median_of(runs, [](const Replayed& run) { return run.seconds; });
  summary.rows = count(runs.front().rows);
  summary.transactions = count(runs.front().transactions);
  summary.bytes = count(runs.front().bytes);
  summary.receiver_cpu = median_cpu(runs, "receiver");
  summary.standby_cpu = median_cpu(runs, "standby");
  for (const auto& run : runs) {
    for (const double seconds : run.group_seconds)
      summary.group_milliseconds.push_back(seconds * 1e3);
    summary.peak_memory_bytes = std::max(summary.peak_memory_bytes, count(run.peak_memory_bytes));
    summary.exact_path_retries += run.exact_path_retries;
  }
  return summary;
}

std::optional<double> sum(const std::optional<double>& a, const std::optional<double>& b) {
  return a && b ? std::optional(*a + *b) : std::nullopt;
}

// The best of its runs: what ours is to be measured by.
double builtin_seconds(const ReplayFigures& figures) {
  double best = figures.builtin.front().seconds;
  for (const auto& turn : figures.builtin) best = std::min(best, turn.seconds);
  return best;
}

std::optional<double> times_builtin(const ReplayFigures& figures, const Summary& summary) {
  if (figures.builtin.empty()) return std::nullopt;
  return builtin_seconds(figures) / summary.seconds;
}

// Receiver and standby together, as a share of what the built-in one's workers take.
std::optional<double> share_of_builtin_cpu(const ReplayFigures& figures, const Summary& summary) {
  const auto ours = sum(summary.receiver_cpu, summary.standby_cpu);
  const auto theirs = median_cpu(figures.builtin, "standby");
  if (!ours || !theirs || *theirs == 0) return std::nullopt;
  return *ours / *theirs;
}

std::string column(const std::optional<double>& value, int width, int digits) {
  return value ? fmt::format("{:>{}.{}f}", *value, width, digits)
               : fmt::format("{:>{}}", "-", width);
}

std::optional<double> per_million(const std::optional<double>& seconds, double rows) {
  return seconds ? std::optional(*seconds / (rows / kMillion)) : std::nullopt;
}

std::string line(const ReplayFigures& figures, const ReplayWay& way) {
  const auto summary = summary_of(way);
  const auto latency = [&](double p) { return percentile(summary.group_milliseconds, p); };
  auto text = fmt::format("  {:<12}{:>3}{:>8.2f}{:>10.0f}{:>10.0f}{:>8.1f}", way.apply_path,
                          way.workers, summary.seconds, summary.rows / summary.seconds,
                          summary.transactions / summary.seconds,
                          summary.bytes / kMillion / summary.seconds);
  text += column(times_builtin(figures, summary), 7, 2);
  text += column(per_million(summary.receiver_cpu, summary.rows), 10, 2);
  text += column(per_million(summary.standby_cpu, summary.rows), 9, 2);
  text += column(share_of_builtin_cpu(figures, summary), 7, 2);
  text +=
      fmt::format("{:>8}{:>8.0f}{:>7.0f}{:>7.0f}{:>7.0f}{:>6.0f}\n",
                  summary.group_milliseconds.size() / way.runs.size(), latency(0.5), latency(0.9),
                  latency(0.99), latency(1), summary.peak_memory_bytes / kMebibyte);
  if (summary.exact_path_retries > 0)
    text += fmt::format("    {} times the fast path was taken back\n", summary.exact_path_retries);
  return text;
}

std::string builtin_line(const ReplayFigures& figures) {
  if (figures.builtin.empty()) return {};
  const double rows = count(figures.ways.front().runs.front().rows);
  const double transactions = count(figures.ways.front().runs.front().transactions);
  const double seconds = builtin_seconds(figures);
  return fmt::format("  {:<12}{:>3}{:>8.2f}{:>10.0f}{:>10.0f}{:>8}{:>7}{:>10}", "built-in", "",
                     seconds, rows / seconds, transactions / seconds, "-", "1.00", "-") +
         column(per_million(median_cpu(figures.builtin, "standby"), rows), 9, 2) +
         fmt::format("{:>7}\n", "1.00");
}

template <class Json>
void put(Json& json, const char* name, const std::optional<double>& value) {
  if (value) json[name] = *value;
}

nlohmann::ordered_json as_json(const Replayed& run) {
  return {{"seconds", run.seconds},
          {"cpu_seconds", run.cpu},
          {"peak_memory_bytes", run.peak_memory_bytes},
          {"exact_path_retries", run.exact_path_retries},
          {"group_seconds", run.group_seconds}};
}

nlohmann::ordered_json as_json(const ReplayFigures& figures, const ReplayWay& way) {
  const auto summary = summary_of(way);
  nlohmann::ordered_json json{{"apply_path", way.apply_path},
                              {"workers", way.workers},
                              {"seconds", summary.seconds},
                              {"rows_per_second", summary.rows / summary.seconds},
                              {"transactions_per_second", summary.transactions / summary.seconds},
                              {"megabytes_per_second", summary.bytes / kMillion / summary.seconds}};
  put(json, "receiver_cpu_seconds_per_million", per_million(summary.receiver_cpu, summary.rows));
  put(json, "standby_cpu_seconds_per_million", per_million(summary.standby_cpu, summary.rows));
  put(json, "times_builtin", times_builtin(figures, summary));
  put(json, "share_of_builtin_cpu", share_of_builtin_cpu(figures, summary));
  const auto& milliseconds = summary.group_milliseconds;
  json["group_latency_ms"] = {{"count", milliseconds.size()},
                              {"p50", percentile(milliseconds, 0.5)},
                              {"p90", percentile(milliseconds, 0.9)},
                              {"p99", percentile(milliseconds, 0.99)},
                              {"max", percentile(milliseconds, 1)}};
  json["peak_memory_bytes"] = summary.peak_memory_bytes;
  json["exact_path_retries"] = summary.exact_path_retries;
  auto runs = nlohmann::ordered_json::array();
  for (const auto& run : way.runs) runs.push_back(as_json(run));
  json["runs"] = std::move(runs);
  return json;
}

}  // namespace

std::string table(const ReplayFigures& figures) {
  const auto& first = figures.ways.front().runs.front();
  auto text = fmt::format(
      "{}: {}; {} transactions, {} rows, {:.1f} MB, spool {:.1f} MB\n"
      "  {:<12}{:>3}{:>8}{:>10}{:>10}{:>8}{:>7}{:>26}{:>8}{:>29}{:>6}\n"
      "  {:<12}{:>3}{:>8}{:>10}{:>10}{:>8}{:>7}{:>10}{:>9}{:>7}{:>8}{:>8}{:>7}{:>7}{:>7}{:>6}\n",
      figures.workload, figures.title, first.transactions, first.rows,
      count(first.bytes) / kMillion, count(figures.spool_bytes) / kMillion, "", "", "", "", "", "",
      "", "CPU s per million rows", "", "group latency, ms", "peak", "apply path", "", "seconds",
      "rows/s", "trans/s", "MB/s", "times", "receiver", "standby", "share", "groups", "p50", "p90",
      "p99", "max", "MiB");
  for (const auto& way : figures.ways) text += line(figures, way);
  return text + builtin_line(figures);
}

nlohmann::ordered_json as_json(const ReplayFigures& figures) {
  const auto& first = figures.ways.front().runs.front();
  nlohmann::ordered_json json{{"name", figures.workload},
                              {"title", figures.title},
                              {"rows", first.rows},
                              {"transactions", first.transactions},
                              {"bytes", first.bytes},
                              {"spool_bytes", figures.spool_bytes},
                              {"ways", nlohmann::json::array()}};
  for (const auto& way : figures.ways) json["ways"].push_back(as_json(figures, way));
  if (figures.builtin.empty()) return json;
  auto runs = nlohmann::ordered_json::array();
  for (const auto& turn : figures.builtin)
    runs.push_back({{"seconds", turn.seconds}, {"cpu_seconds", turn.cpu}});
  json["builtin"] = {{"seconds", builtin_seconds(figures)},
                     {"rows_per_second", count(first.rows) / builtin_seconds(figures)}};
  put(json["builtin"], "standby_cpu_seconds_per_million",
      per_million(median_cpu(figures.builtin, "standby"), count(first.rows)));
  json["builtin"]["runs"] = std::move(runs);
  return json;
}

}  // namespace bitacora::bench
