#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bench/median.h"

namespace bitacora::bench {
namespace {

struct WayName {
  Way way;
  const char* text;
  const char* key;
  const char* colour;
};
constexpr std::array kWays{
    WayName{Way::kCatchUp, "bitacora, end to end", "bitacora_catch_up", "#1b6ca8"},
    WayName{Way::kApplyOnly, "bitacora, apply only", "bitacora_apply_only", "#8fbcdb"},
    WayName{Way::kBuiltin, "built-in", "builtin", "#777777"}};

double median_seconds(const Figures& figures, Way way) {
  std::vector<double> seconds;
  for (const auto& turn : figures.turns.at(way)) seconds.push_back(turn.seconds);
  return median(std::move(seconds));
}

// How long the follower took to begin, "-" when nothing had to be started.
std::string start_column(const std::vector<Turn>& turns) {
  std::vector<double> seconds;
  for (const auto& turn : turns) {
    if (turn.start_seconds) seconds.push_back(*turn.start_seconds);
  }
  return seconds.empty() ? fmt::format("{:>9}", "-")
                         : fmt::format("{:>9.2f}", median(std::move(seconds)));
}

double times_builtin(const Figures& figures, Way way) {
  return median_seconds(figures, Way::kBuiltin) / median_seconds(figures, way);
}

// Role → median, in seconds.
CpuSeconds median_cpu(const std::vector<Turn>& turns) {
  std::map<std::string, std::vector<double>> by_role;
  for (const auto& turn : turns) {
    for (const auto& [role, seconds] : turn.cpu) by_role[role].push_back(seconds);
  }
  CpuSeconds medians;
  for (auto& [role, seconds] : by_role) medians[role] = median(std::move(seconds));
  return medians;
}

std::string cpu_column(const CpuSeconds& cpu, const char* role, double millions) {
  const auto found = cpu.find(role);
  return found == cpu.end() ? fmt::format("{:>10}", "-")
                            : fmt::format("{:>10.2f}", found->second / millions);
}

std::string wire_column(const std::vector<Turn>& turns) {
  std::vector<double> megabytes;
  for (const auto& turn : turns) {
    if (turn.spool_bytes) megabytes.push_back(static_cast<double>(*turn.spool_bytes) / 1e6);
  }
  return megabytes.empty() ? fmt::format("{:>10}", "-")
                           : fmt::format("{:>7.1f} MB", median(std::move(megabytes)));
}

std::string bar(const WayName& way, double ratio, double y, double pixels_per_time) {
  const double width = ratio * pixels_per_time;
  return fmt::format(
      "<rect x=\"110\" y=\"{:.0f}\" width=\"{:.1f}\" height=\"14\" fill=\"{}\"/>\n"
      "<text x=\"{:.1f}\" y=\"{:.0f}\">{:.2f}</text>\n",
      y, width, way.colour, 110 + width + 6, y + 12, ratio);
}

}  // namespace

std::string table(const Figures& figures) {
  const auto changes = static_cast<double>(figures.changes);
  auto text = fmt::format(
      "{}: {}; {} changes\n"
      "  {:<22}{:>9}{:>9}{:>12}{:>12}   CPU seconds per million changes\n"
      "  {:<22}{:>9}{:>9}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
      figures.workload, figures.title, figures.changes, "", "", "", "", "", "", "seconds", "start",
      "changes/s", "x built-in", "sender", "receiver", "walsender", "standby", "wire");
  for (const auto& way : kWays) {
    const auto& turns = figures.turns.at(way.way);
    const double seconds = median_seconds(figures, way.way);
    text += fmt::format("  {:<22}{:>9.2f}{}{:>12.0f}{:>12.2f}", way.text, seconds,
                        start_column(turns), changes / seconds, times_builtin(figures, way.way));
    const auto cpu = median_cpu(turns);
    for (const char* role : {"sender", "receiver", "walsender", "standby"})
      text += cpu_column(cpu, role, changes / 1e6);
    text += wire_column(turns) + "\n";
  }
  if (figures.exact_path_retries > 0)
    text += fmt::format("  {} groups were taken back and applied row by row\n",
                        figures.exact_path_retries);
  return text;
}

nlohmann::ordered_json as_json(const std::vector<Figures>& all) {
  auto workloads = nlohmann::ordered_json::array();
  for (const auto& figures : all) {
    nlohmann::ordered_json ways;
    for (const auto& way : kWays) {
      auto rounds = nlohmann::ordered_json::array();
      for (const auto& turn : figures.turns.at(way.way)) {
        nlohmann::ordered_json round{{"seconds", turn.seconds}, {"cpu_seconds", turn.cpu}};
        if (turn.start_seconds) round["start_seconds"] = *turn.start_seconds;
        if (turn.spool_bytes) round["spool_bytes"] = *turn.spool_bytes;
        rounds.push_back(std::move(round));
      }
      const double seconds = median_seconds(figures, way.way);
      ways[way.key] = {{"seconds", seconds},
                       {"changes_per_second", static_cast<double>(figures.changes) / seconds},
                       {"times_builtin", times_builtin(figures, way.way)},
                       {"rounds", std::move(rounds)}};
    }
    workloads.push_back({{"name", figures.workload},
                         {"title", figures.title},
                         {"changes", figures.changes},
                         {"exact_path_retries", figures.exact_path_retries},
                         {"ways", std::move(ways)}});
  }
  return workloads;
}

std::string as_svg(const std::vector<Figures>& all, const std::string& conditions) {
  constexpr double kWidth = 640;
  constexpr double kGroupHeight = 44;
  double greatest = 1;
  for (const auto& figures : all) {
    for (const auto& way : kWays) greatest = std::max(greatest, times_builtin(figures, way.way));
  }
  const double pixels_per_time = (kWidth - 110 - 60) / greatest;
  const double height = 90 + kGroupHeight * static_cast<double>(all.size());
  std::string bars;
  double y = 76;
  for (const auto& figures : all) {
    bars += fmt::format("<text x=\"100\" y=\"{:.0f}\" text-anchor=\"end\">{}</text>\n", y + 20,
                        figures.workload);
    bars += bar(kWays[0], times_builtin(figures, Way::kCatchUp), y, pixels_per_time);
    bars += bar(kWays[1], times_builtin(figures, Way::kApplyOnly), y + 16, pixels_per_time);
    y += kGroupHeight;
  }
  const double one = 110 + pixels_per_time;
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0:.0f}\" height=\"{1:.0f}\" fill=\"white\"/>\n"
      "<text x=\"10\" y=\"18\" font-size=\"14\">Times as fast as a built-in subscription</text>\n"
      "<text x=\"10\" y=\"36\" fill=\"{2}\">{3}</text>\n"
      "<text x=\"10\" y=\"56\" fill=\"{4}\">{5}</text>\n"
      "<text x=\"170\" y=\"56\" fill=\"{6}\">{7}</text>\n"
      "{8}<line x1=\"{9:.1f}\" y1=\"68\" x2=\"{9:.1f}\" y2=\"{10:.0f}\" stroke=\"{2}\" "
      "stroke-dasharray=\"4 3\"/>\n</svg>\n",
      kWidth, height, kWays[2].colour, conditions, kWays[0].colour, kWays[0].text, kWays[1].colour,
      kWays[1].text, bars, one, height - 10);
}

}  // namespace bitacora::bench
