// Hosts whose wall clocks are an hour apart: nothing waits for it, and the lag is the master's own
// time.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <pqxx/pqxx>
#include <thread>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kHeldUp{3};
constexpr double kLagMin = 1.0;
constexpr double kLagMax = 60.0;

double lag_seconds(const Pair& pair) {
  const auto shown = Pair::bitacora({"status", "--http", pair.receiver_http(), "--json"});
  return nlohmann::json::parse(shown.output)["lag_seconds"].get<double>();
}

// Each process gets a clock of its own.
void expect_right_lag(Pair& pair, int sender_hours, int receiver_hours) {
  const auto off_by = [](int hours) {
    return std::vector<std::string>{std::string("LD_PRELOAD=") + BITACORA_SKEWED_CLOCK,
                                    fmt::format("BITACORA_CLOCK_SKEW={}", hours * 3600)};
  };
  pair.start_sender(off_by(sender_hours));
  pair.wait_for_slot();
  pair.start_receiver(off_by(receiver_hours));
  pair.on_master("INSERT INTO t DEFAULT VALUES");
  pair.wait_applied();
  EXPECT_TRUE(eventually([&] { return lag_seconds(pair) < kLagMin; }));
  {
    pqxx::connection holder(pair.standby());
    pqxx::work lock(holder);
    lock.exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    pair.on_master("INSERT INTO t DEFAULT VALUES");
    std::this_thread::sleep_for(kHeldUp);
    const auto lag = lag_seconds(pair);
    EXPECT_GT(lag, kLagMin);
    EXPECT_LT(lag, kLagMax);
  }
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
  pair.stop();
}

TEST(ClockSkew, AnHourEitherWay) {
  Pair pair;
  pair.on_both("CREATE TABLE t (id bigserial PRIMARY KEY)");
  struct Case {
    const char* name;
    int sender_hours;
    int receiver_hours;
  };
  for (const Case& c : {Case{"receiver ahead", 0, 1}, Case{"receiver behind", 0, -1},
                        Case{"sender ahead, receiver behind", 1, -1}}) {
    SCOPED_TRACE(c.name);
    expect_right_lag(pair, c.sender_hours, c.receiver_hours);
  }
}

}  // namespace
}  // namespace bitacora::harness
