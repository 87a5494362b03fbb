#include "engine/copy_progress.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "engine/human.h"

namespace bitacora::engine {
namespace {

double in_seconds(CopyProgress::Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

std::string table_line(const std::string& name, const std::string& rows, const std::string& bytes,
                       double seconds) {
  return fmt::format("{:<40} {:>15} {:>10} {:>14}", name, rows, bytes, human_seconds(seconds));
}

}  // namespace

void CopyProgress::begin(const std::vector<Expected>& tables) {
  const std::lock_guard lock(mutex_);
  phase_ = Phase::kCopying;
  tables_.clear();
  steps_.clear();
  steps_expected_ = steps_done_ = 0;
  rows_ = bytes_ = bytes_complete_ = disk_bytes_ = disk_bytes_done_ = 0;
  waiting_.clear();
  for (const auto& table : tables) {
    tables_[table.table].parts = table.parts;
    disk_bytes_ += table.disk_bytes;
  }
  begun_at_ = Clock::now();
}

void CopyProgress::on_part_begun(const std::string& table) {
  const std::lock_guard lock(mutex_);
  auto& each = tables_[table];
  if (each.begun_at == Clock::time_point()) each.begun_at = Clock::now();
}

void CopyProgress::on_bytes(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_ += bytes;
  waiting_.clear();
}

void CopyProgress::on_part(const std::string& table, std::uint64_t rows, std::uint64_t bytes,
                           std::uint64_t disk_bytes) {
  const std::lock_guard lock(mutex_);
  auto& each = tables_[table];
  ++each.parts_done;
  each.rows += rows;
  each.bytes += bytes;
  rows_ += rows;
  bytes_complete_ += bytes;
  disk_bytes_done_ += disk_bytes;
}

void CopyProgress::on_table(const std::string& table) {
  const std::lock_guard lock(mutex_);
  auto& each = tables_[table];
  each.copied = true;
  each.ended_at = Clock::now();
  if (each.begun_at == Clock::time_point()) each.begun_at = each.ended_at;
}

void CopyProgress::begin_steps(std::size_t steps) {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kCopying) begun_at_ = Clock::now();
  phase_ = Phase::kSteps;
  steps_expected_ = steps;
  waiting_.clear();
}

void CopyProgress::on_step(const std::string& type, const std::string& name, Clock::duration took) {
  const std::lock_guard lock(mutex_);
  ++steps_done_;
  ++steps_[type].count;
  steps_[type].took += took;
  last_step_ = fmt::format("{} {}", type, name);
}

void CopyProgress::on_waiting(const std::string& what) {
  const std::lock_guard lock(mutex_);
  waiting_ = what;
}

void CopyProgress::end() {
  const std::lock_guard lock(mutex_);
  phase_ = Phase::kEnded;
  ended_at_ = Clock::now();
  waiting_.clear();
}

bool CopyProgress::running() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kCopying || phase_ == Phase::kSteps;
}

double CopyProgress::seconds() const {
  if (phase_ == Phase::kNone) return 0;
  return in_seconds((phase_ == Phase::kEnded ? ended_at_ : Clock::now()) - begun_at_);
}

// By the share of the master's pages that is here. Of parts under way their bytes are known, and
// what complete ones took of the disk for each of theirs.
double CopyProgress::remaining_seconds() const {
  const double per_byte = bytes_complete_ > 0 ? static_cast<double>(disk_bytes_done_) /
                                                    static_cast<double>(bytes_complete_)
                                              : 1.0;
  const double arrived = std::min(static_cast<double>(disk_bytes_),
                                  static_cast<double>(disk_bytes_done_) +
                                      static_cast<double>(bytes_ - bytes_complete_) * per_byte);
  if (arrived <= 0) return 0;
  return seconds() * (static_cast<double>(disk_bytes_) - arrived) / arrived;
}

std::size_t CopyProgress::tables_copied() const {
  return static_cast<std::size_t>(std::count_if(
      tables_.begin(), tables_.end(), [](const auto& each) { return each.second.copied; }));
}

std::string CopyProgress::line() const {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kSteps) {
    return fmt::format("after the rows: {} of {} steps, {} (last: {})", steps_done_,
                       steps_expected_, human_seconds(seconds()),
                       last_step_.empty() ? "none yet" : last_step_);
  }
  if (!waiting_.empty()) return "copying: waiting, " + waiting_;
  std::size_t parts = 0;
  std::size_t parts_done = 0;
  std::string current;
  for (const auto& [name, table] : tables_) {
    parts += table.parts;
    parts_done += table.parts_done;
    if (!table.copied && table.begun_at != Clock::time_point()) current = name;
  }
  return fmt::format(
      "copying {}: {} of {} tables, {} of {} parts, {} rows, {} ({}/s), about {} left",
      current.empty() ? "tables" : current, tables_copied(), tables_.size(), parts_done, parts,
      human_count(rows_), human_bytes(static_cast<double>(bytes_)),
      human_bytes(static_cast<double>(bytes_) / std::max(0.001, seconds())),
      human_seconds(remaining_seconds()));
}

std::vector<std::string> CopyProgress::closing_table() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> lines;
  lines.push_back(
      fmt::format("{:<40} {:>15} {:>10} {:>14}", "table or step", "rows", "bytes", "time"));
  for (const auto& [name, table] : tables_) {
    lines.push_back(table_line(name, human_count(table.rows),
                               human_bytes(static_cast<double>(table.bytes)),
                               in_seconds(table.ended_at - table.begun_at)));
  }
  for (const auto& [type, step] : steps_)
    lines.push_back(
        table_line(fmt::format("{} {}", step.count, type), "", "", in_seconds(step.took)));
  lines.push_back(table_line("in all", human_count(rows_), human_bytes(static_cast<double>(bytes_)),
                             seconds()));
  return lines;
}

nlohmann::ordered_json CopyProgress::document() const {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kNone && waiting_.empty()) return {};
  const bool preparing = phase_ == Phase::kNone || phase_ == Phase::kEnded;
  const char* phase = preparing && !waiting_.empty() ? "preparing"
                      : phase_ == Phase::kCopying    ? "copying"
                      : phase_ == Phase::kSteps      ? "after_copy"
                                                     : "done";
  nlohmann::ordered_json document = {
      {"phase", phase},
      {"tables_copied", tables_copied()},
      {"tables", tables_.size()},
      {"rows", rows_},
      {"bytes", bytes_},
      {"seconds", seconds()},
      {"remaining_seconds", phase_ == Phase::kCopying ? remaining_seconds() : 0.0},
      {"steps_done", steps_done_},
      {"steps", steps_expected_},
      {"waiting_for",
       waiting_.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(waiting_)}};
  auto& unfinished = document["unfinished"] = nlohmann::ordered_json::array();
  for (const auto& [name, table] : tables_) {
    if (table.copied) continue;
    unfinished.push_back({{"table", name},
                          {"parts", table.parts},
                          {"parts_done", table.parts_done},
                          {"rows", table.rows},
                          {"bytes", table.bytes}});
  }
  return document;
}

std::function<void(const std::string&)> waiting_report(CopyProgress& progress,
                                                       const std::string& table) {
  return [&progress, table, said = std::string()](const std::string& what) mutable {
    progress.on_waiting(what);
    if (what == std::exchange(said, what)) return;
    const auto whose = table.empty() ? "" : " table=" + table;
    spdlog::warn("event=copy_waits{} for=\"{}\"", whose, what);
  };
}

}  // namespace bitacora::engine
