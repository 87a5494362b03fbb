// What is larger than memory should be: one transaction, one value. Long form:
// BITACORA_HUGE_MEGABYTES=5120 BITACORA_HUGE_ABORTED_MEGABYTES=5120
// BITACORA_HUGE_VALUE_MEGABYTES=200.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <pqxx/pqxx>

#include <fmt/format.h>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

constexpr std::size_t kMemoryBytesMax = 256u << 20;
constexpr std::size_t kAbortedMemoryBytesMax = 64u << 20;  // less than what is rolled back
constexpr std::chrono::minutes kPatience{20};

unsigned setting(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? static_cast<unsigned>(std::atol(text)) : otherwise;
}

struct Peaks {
  std::size_t sender;
  std::size_t receiver;
};

Peaks peaks_of(Pair& pair) {
  const Peaks peaks{peak_resident_bytes(pair.sender().pid()),
                    peak_resident_bytes(pair.receiver().pid())};
  std::cout << fmt::format("peak memory: sender {} MiB, receiver {} MiB\n", peaks.sender >> 20,
                           peaks.receiver >> 20);
  return peaks;
}

// Rows of 1 kB. Others commit before it and after it; it is there as a whole or not at all.
TEST(Huge, ATransactionInBoundedMemory) {
  Pair pair;
  pair.on_both(
      "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE small (id int PRIMARY KEY)");
  pair.start();
  pair.on_master("INSERT INTO small VALUES (1)");
  pair.wait_applied();  // it is read live
  pair.on_master(
      fmt::format("INSERT INTO t SELECT i, repeat(md5(i::text), 32) FROM generate_series(1, {}) i",
                  setting("BITACORA_HUGE_MEGABYTES", 400) * 1000));
  pair.on_master("INSERT INTO small VALUES (2)");
  pair.wait_applied(kPatience);
  const char* kDigest = "SELECT count(*) || ' ' || sum(hashtextextended(v, id)) FROM t";
  EXPECT_EQ(query_value(pair.standby(), kDigest), query_value(pair.master(), kDigest));
  EXPECT_TRUE(pair.same_content("public.small"));
  const auto peaks = peaks_of(pair);
  EXPECT_LT(peaks.sender, kMemoryBytesMax);
  EXPECT_LT(peaks.receiver, kMemoryBytesMax);
}

// What is rolled back is decoded by the master only. Others commit meanwhile, and are not held up.
// `meanwhile` is called after every tenth of it.
void roll_back_much(const Pair& pair, const std::function<void()>& meanwhile) {
  const auto rows = setting("BITACORA_HUGE_ABORTED_MEGABYTES", 100) * 100;
  pqxx::connection session(pair.master());
  pqxx::work transaction(session);
  for (unsigned part = 0; part < 10; ++part) {
    transaction.exec(fmt::format(
        "INSERT INTO t SELECT i, repeat(md5(i::text), 32) FROM generate_series({}, {}) i",
        part * rows + 1, (part + 1) * rows));
    meanwhile();
  }
  transaction.abort();
}

class HugeAborted : public testing::Test {
 protected:
  HugeAborted() {
    pair_.on_both(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE small (id serial PRIMARY KEY)");
    pair_.start();
    commit_one();
    pair_.wait_applied();
  }

  void commit_one() const { pair_.on_master("INSERT INTO small DEFAULT VALUES"); }

  void expect_the_committed_only() {
    commit_one();
    pair_.wait_applied(kPatience);
    EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "0");
    EXPECT_TRUE(pair_.same_content("public.small"));
    const auto peaks = peaks_of(pair_);
    EXPECT_LT(peaks.sender, kAbortedMemoryBytesMax);
    EXPECT_LT(peaks.receiver, kAbortedMemoryBytesMax);
  }

  Pair pair_;
};

TEST_F(HugeAborted, LeavesNothingAndHoldsNobodyUp) {
  roll_back_much(pair_, [&] {
    commit_one();
    pair_.wait_applied(kPatience);
  });
  expect_the_committed_only();
}

// Its WAL is a backlog, before it is known to have been rolled back and after.
TEST_F(HugeAborted, InABacklog) {
  EXPECT_EQ(pair_.stop_sender(), 0);
  int part = 0;
  roll_back_much(pair_, [&] {
    commit_one();
    if (++part == 6) pair_.start_sender();
    if (part == 6) pair_.wait_applied(kPatience);
    if (part == 8) pair_.stop_sender();
  });
  pair_.start_sender();
  expect_the_committed_only();
  EXPECT_NE(pair_.story().find("event=catching_up"), std::string::npos) << pair_.story();
}

// A value is in memory as a whole, several times: libpq hands it out so, and takes it so.
TEST(Huge, AValueOfManyFrames) {
  Pair pair;
  pair.on_both("CREATE TABLE t (id int PRIMARY KEY, v text, n int)");
  pair.start();
  pair.on_master(fmt::format(
      "INSERT INTO t SELECT 1, string_agg(md5(i::text), ''), 0 FROM generate_series(1, {}) i",
      setting("BITACORA_HUGE_VALUE_MEGABYTES", 40) * 32768));
  pair.on_master("UPDATE t SET n = 1");
  pair.wait_applied(kPatience);
  const char* kDigest = "SELECT length(v) || ' ' || md5(v) || ' ' || n FROM t";
  EXPECT_EQ(query_value(pair.standby(), kDigest), query_value(pair.master(), kDigest));
  peaks_of(pair);
}

}  // namespace
}  // namespace bitacora::harness
