#include "bench/lag_probe.h"

#include <fmt/format.h>

#include "bench/cpu_meter.h"
#include "bench/patience.h"

namespace bitacora::bench {
namespace {

constexpr std::chrono::milliseconds kMarkInterval{50};
constexpr std::chrono::milliseconds kLookInterval{10};
constexpr const char* kNewest = "SELECT coalesce(max(round), 0) FROM mark";

int newest_mark(pqxx::connection& connection) {
  return pqxx::nontransaction(connection).exec1(kNewest)[0].as<int>();
}

}  // namespace

LagProbe::LagProbe(const std::string& master, const std::string& standby)
    : master_(as_observer(master)), standby_(as_observer(standby)), marks_(newest_mark(master_)) {}

void LagProbe::look() {
  if (Clock::now() - marked_at_ >= kMarkInterval) mark();
  if (Clock::now() - looked_at_ >= kLookInterval) look_for_arrived();
}

void LagProbe::finish(std::chrono::milliseconds timeout) {
  mark();
  await(
      "the standby to show everything",
      [&] {
        look_for_arrived();
        return under_way_.empty();
      },
      timeout, kLookInterval);
}

void LagProbe::mark() {
  marked_at_ = Clock::now();
  pqxx::nontransaction(master_).exec(fmt::format("INSERT INTO mark VALUES ({})", ++marks_));
  under_way_.emplace_back(marks_, Clock::now());
}

void LagProbe::look_for_arrived() {
  const int arrived = newest_mark(standby_);
  looked_at_ = Clock::now();
  for (; !under_way_.empty() && under_way_.front().first <= arrived; under_way_.pop_front()) {
    const auto lag = looked_at_ - under_way_.front().second;
    seconds_.push_back(std::chrono::duration<double>(lag).count());
  }
}

}  // namespace bitacora::bench
