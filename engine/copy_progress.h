// How far a copy has come: for a terminal, for the log, for status pages. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace bitacora::engine {

class CopyProgress {
 public:
  using Clock = std::chrono::steady_clock;

  // A table that this run is to copy, whole or the parts that are missing.
  struct Expected {
    std::string table;
    std::size_t parts = 0;
    std::uint64_t disk_bytes = 0;  // of these parts, on the master
  };

  void begin(const std::vector<Expected>& tables);
  void on_part_begun(const std::string& table);
  void on_bytes(std::uint64_t bytes);  // of COPY's output, of whichever table
  void on_part(const std::string& table, std::uint64_t rows, std::uint64_t bytes,
               std::uint64_t disk_bytes);
  void on_table(const std::string& table);  // all of its parts are there
  void begin_steps(std::size_t steps);      // indexes and what else comes after the rows
  void on_step(const std::string& type, const std::string& name, Clock::duration took);
  void on_waiting(const std::string& what);  // shown until something moves; "": no more
  void end();

  bool running() const;
  // One line: tables, rows, bytes, rate, how long it will take, parts; or the step it is at.
  std::string line() const;
  // A line per table and per kind of step, and one for all.
  std::vector<std::string> closing_table() const;
  // null when this process neither copied anything nor waits to.
  nlohmann::ordered_json document() const;

 private:
  struct Table {
    std::size_t parts = 0;
    std::size_t parts_done = 0;
    std::uint64_t rows = 0;
    std::uint64_t bytes = 0;
    bool copied = false;
    Clock::time_point begun_at;
    Clock::time_point ended_at;
  };
  struct Step {
    std::size_t count = 0;
    Clock::duration took{};
  };
  enum class Phase { kNone, kCopying, kSteps, kEnded };

  double seconds() const;
  double remaining_seconds() const;
  std::size_t tables_copied() const;

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  Phase phase_ = Phase::kNone;
  std::map<std::string, Table> tables_;
  std::map<std::string, Step> steps_;  // by type
  std::size_t steps_expected_ = 0;
  std::size_t steps_done_ = 0;
  std::string last_step_;
  std::string waiting_;
  std::uint64_t rows_ = 0;             // of parts that are complete
  std::uint64_t bytes_ = 0;            // that have arrived
  std::uint64_t bytes_complete_ = 0;   // of parts that are complete
  std::uint64_t disk_bytes_ = 0;       // expected
  std::uint64_t disk_bytes_done_ = 0;  // of parts that are complete
  Clock::time_point begun_at_;
  Clock::time_point ended_at_;
};

// To be told what a copy waits for: shows it in `progress`, which must outlive it, and logs it once
// for as long as it is the same. `table`: whose rows are waited for, if they are.
std::function<void(const std::string&)> waiting_report(CopyProgress& progress,
                                                       const std::string& table = {});

}  // namespace bitacora::engine
