// Several groups in flight: the standby ends as the master, waits in no circle, and never shows
// anything but a state that the master was in.
//   BITACORA_PREFIX_READS=n looks n times (20,000)
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <pqxx/pqxx>
#include <set>
#include <thread>

#include "tests/apply/apply_fixture.h"
#include "tests/apply/ledger.h"

namespace bitacora::apply {
namespace {

constexpr unsigned kWorkers = 4;
constexpr std::int64_t kAccounts = 20;  // so few that most groups meet one in flight

void must(const Result<void>& result) { ASSERT_TRUE(result.ok()) << one_line(result.error()); }

// Every transaction is a group.
ApplierOptions one_by_one() {
  ApplierOptions options;
  options.group_rows_max = 1;
  return options;
}

// Until nothing is in flight.
Result<void> settle(Applier& applier, MasterLsn end) {
  Result<void> ticked;
  harness::eventually([&] {
    ticked = applier.tick();
    return !ticked.ok() || applier.applied() == end;
  });
  return ticked;
}

class ParallelApply : public ApplyTest {
 protected:
  // Of sessions that have ended: only then the server has counted them for certain.
  std::string deadlocks() const {
    return standby_value(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
  }
  void expect_equal(const std::string& table) const {
    EXPECT_EQ(content(table), harness::table_content(master(), table)) << table;
  }
};

TEST_F(ParallelApply, GroupsThatMeetDoNotDeadlock) {
  Ledger ledger(kAccounts, 20261123);
  on_standby(ledger.schema_sql());
  {
    ApplySession session(standby(), one_by_one(), {}, kWorkers);
    while (ledger.transactions() < 10'000) {
      for (int i = 0; i < 100; ++i) ledger.transaction();
      ASSERT_NO_FATAL_FAILURE(must(session.take(ledger.take(), true)));
    }
    ASSERT_NO_FATAL_FAILURE(must(settle(session.applier(), ledger.end())));
    EXPECT_EQ(session.applier().counts().transactions, 10'000u);
  }
  std::int64_t number = 0;
  const auto seen = standby_value(Ledger::reader_sql());
  EXPECT_TRUE(ledger.was_in_state(seen, number)) << seen;
  EXPECT_EQ(number, ledger.transactions());
  EXPECT_EQ(progress(), to_string(ledger.end()));
  EXPECT_EQ(standby_value("SELECT count(DISTINCT xmin::text) = count(*) FROM log"), "t")
      << "each was a group of its own";
  EXPECT_EQ(deadlocks(), "0");
}

TEST_F(ParallelApply, ReadersSeeAPrefix) {
  const char* wanted = std::getenv("BITACORA_PREFIX_READS");
  const std::int64_t reads_min = wanted != nullptr ? std::atoll(wanted) : 20'000;
  Ledger ledger(kAccounts, 1);
  on_standby(ledger.schema_sql());
  std::atomic<std::int64_t> reads = 0;
  std::atomic<std::int64_t> states = 0;
  std::atomic<std::int64_t> wrong = 0;
  const auto read = [&] {
    pqxx::connection connection(standby());
    pqxx::nontransaction session(connection);
    session.exec("PREPARE look AS " + Ledger::reader_sql());
    std::int64_t last = -1;
    while (reads++ < reads_min) {
      std::int64_t number = 0;
      const auto seen = session.exec("EXECUTE look")[0][0].as<std::string>();
      if (!ledger.was_in_state(seen, number) || number < last) {
        if (wrong++ == 0) ADD_FAILURE() << "after " << last << ": " << seen;
      }
      states += number != std::exchange(last, number) ? 1 : 0;
    }
  };
  {
    ApplySession session(standby(), one_by_one(), {}, kWorkers);
    std::jthread readers[] = {std::jthread(read), std::jthread(read)};
    while (reads < reads_min) {
      for (int i = 0; i < 50; ++i) ledger.transaction();
      ASSERT_NO_FATAL_FAILURE(must(session.take(ledger.take(), true)));
    }
    ASSERT_NO_FATAL_FAILURE(must(settle(session.applier(), ledger.end())));
  }
  std::cout << fmt::format("{} reads of {} states, {} transactions: {} wrong\n", reads_min,
                           states.load(), ledger.transactions(), wrong.load());
  EXPECT_GT(states, reads_min / 200) << "nearly nothing happened between two looks";
  EXPECT_EQ(deadlocks(), "0");
}

struct Case {
  const char* name;
  const char* setup;
  std::vector<std::vector<std::string>> transactions;  // each of which needs the one before
};

// Groups that would be in each other's way if one did not wait for the other.
TEST_F(ParallelApply, WaitsForWhatKeysDoNotTell) {
  for (const Case& c : {
           Case{"same key",
                "CREATE TABLE t (id int PRIMARY KEY, v int)",
                {{"INSERT INTO t VALUES (1, 1)"},
                 {"UPDATE t SET v = 2 WHERE id = 1"},
                 {"UPDATE t SET id = 2 WHERE id = 1"},
                 {"DELETE FROM t WHERE id = 2"}}},
           Case{"second unique index",
                "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE)",
                {{"INSERT INTO t VALUES (1, 7)"},
                 {"DELETE FROM t WHERE id = 1"},
                 {"INSERT INTO t VALUES (2, 7)"},
                 {"DELETE FROM t WHERE id = 2"}}},
           Case{"exclusion constraint",
                "CREATE TABLE t (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))",
                {{"INSERT INTO t VALUES (1, '[1,5)')"},
                 {"DELETE FROM t WHERE id = 1"},
                 {"INSERT INTO t VALUES (2, '[2,3)')"},
                 {"DELETE FROM t WHERE id = 2"}}},
           Case{"equal keys with other bytes",
                "CREATE TABLE t (id numeric PRIMARY KEY)",
                {{"INSERT INTO t VALUES (1.0)"},
                 {"DELETE FROM t WHERE id = 1"},
                 {"INSERT INTO t VALUES (1.000)"},
                 {"DELETE FROM t WHERE id = 1"}}},
           Case{"no key",
                "CREATE TABLE t (id int, v int); ALTER TABLE t REPLICA IDENTITY FULL",
                {{"INSERT INTO t VALUES (1, 1)"},
                 {"UPDATE t SET v = 2 WHERE v = 1"},
                 {"INSERT INTO t VALUES (1, 1)"},
                 {"DELETE FROM t WHERE v = 1"},
                 {"DELETE FROM t WHERE v = 2"}}},
       }) {
    SCOPED_TRACE(c.name);
    clear();
    PlayedMaster played(master());
    on_both(played, c.setup);
    ApplySession session(standby(), one_by_one(), {}, kWorkers);
    for (int round = 0; round < 50; ++round) {
      for (const auto& transaction : c.transactions) played.transaction(transaction);
    }
    played.transaction({c.transactions.front()});
    ASSERT_NO_FATAL_FAILURE(must(session.take(played.take(), true)));
    ASSERT_NO_FATAL_FAILURE(must(settle(session.applier(), played.end())));
    expect_equal("public.t");
  }
}

TEST_F(ParallelApply, AMixOfEverything) {
  PlayedMaster played(master());
  on_both(played,
          "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE heap (v text);"
          "CREATE TABLE seen (id int PRIMARY KEY)");
  on_standby(
      "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO"
      " public.seen VALUES (NEW.id); RETURN NEW; END $$;"
      "CREATE TABLE fires (id int PRIMARY KEY);"
      "CREATE TRIGGER see AFTER INSERT ON fires FOR EACH ROW EXECUTE FUNCTION see();"
      "ALTER TABLE fires ENABLE ALWAYS TRIGGER see");
  played.execute("CREATE TABLE fires (id int PRIMARY KEY)");
  auto options = one_by_one();
  options.parallel.collected_rows_max = 50;
  ApplySession session(standby(), options, {}, kWorkers);
  for (int i = 0; i < 20; ++i) {
    played.transaction({fmt::format("INSERT INTO t VALUES ({}, 'x')", i)});
    played.transaction({"INSERT INTO heap VALUES ('x')"});
    played.transaction({fmt::format("INSERT INTO fires VALUES ({})", i)});
    if (i % 5 == 1) {
      played.transaction({"INSERT INTO t SELECT i, 'y' FROM generate_series(1000, 1099) i",
                          "UPDATE t SET v = 'z' WHERE id >= 1000"});
      played.begin();
      played.change("DELETE FROM t WHERE id >= 1000");
      played.truncate({"heap"});
      played.commit();
    }
    ASSERT_NO_FATAL_FAILURE(must(session.take(played.take(), true)));
    if (i == 10) on_both(played, "ALTER TABLE t ALTER v TYPE varchar(10)");
  }
  ASSERT_NO_FATAL_FAILURE(must(settle(session.applier(), played.end())));
  for (const char* table : {"public.t", "public.heap", "public.fires"}) expect_equal(table);
  EXPECT_EQ(content("public.seen"), content("public.fires"));
}

TEST_F(ParallelApply, ASmallTransactionOnAnIdlePairIsThereAtOnce) {
  PlayedMaster played(master());
  on_both(played, "CREATE TABLE t (id int PRIMARY KEY)");
  ApplySession session(standby(), {}, {}, kWorkers);
  for (int i = 0; i < 5; ++i) {
    played.transaction({fmt::format("INSERT INTO t VALUES ({})", i)});
    ASSERT_NO_FATAL_FAILURE(must(session.take(played.take())));
    EXPECT_EQ(session.applier().applied(), played.end()) << "no other thread has it";
  }
  expect_equal("public.t");
}

// Of twenty groups the tenth finds its row gone.
TEST_F(ParallelApply, DriftInTheMiddle) {
  for (const auto path : {ApplyPath::kAuto, ApplyPath::kFast}) {
    SCOPED_TRACE(static_cast<int>(path));
    clear();
    PlayedMaster played(master());
    on_both(played,
            "CREATE TABLE t (id int PRIMARY KEY, v text);"
            "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 20) i");
    on_standby("DELETE FROM t WHERE id = 10");
    std::string before;
    for (int i = 1; i <= 20; ++i) {
      if (i == 10) before = lsn(played);
      played.transaction({fmt::format("UPDATE t SET v = 'y' WHERE id = {}", i)});
    }
    auto options = one_by_one();
    options.path = path;
    const auto batch = played.take();
    for (const bool once_more : {false, true}) {  // as the receiver does
      ApplySession session(standby(), options, {}, kWorkers);
      auto taken = session.take(batch, true);
      if (taken.ok()) taken = settle(session.applier(), played.end());
      ASSERT_FALSE(taken.ok());
      const bool named = taken.error().message.find("(id)=(10)") != std::string::npos;
      EXPECT_TRUE(named || !once_more) << one_line(taken.error());
      EXPECT_EQ(session.applier().refusal().has_value(), !once_more);
      if (!once_more) options.exact_through = session.applier().refusal()->through;
      EXPECT_EQ(progress(), before);
      EXPECT_EQ(standby_value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t WHERE v = 'y'"),
                "1 2 3 4 5 6 7 8 9");
    }
  }
}

// What a killed receiver's connections were told to do may still happen.
TEST_F(ParallelApply, NobodyBeginsBeforeTheOthersAreGone) {
  const auto connect = [this] { return StandbySession::connect(standby(), "apply test").value(); };
  auto next = connect();
  std::optional<StandbySession> other(connect());
  {
    auto main = connect();
    EXPECT_TRUE(main.try_lock(kSubscription).value());
    must(other->join(kSubscription));
  }
  EXPECT_FALSE(harness::eventually([&] { return connect().try_lock(kSubscription).value(); },
                                   std::chrono::milliseconds(200)));
  other.reset();
  EXPECT_TRUE(harness::eventually([&] { return next.try_lock(kSubscription).value(); }));
}

}  // namespace
}  // namespace bitacora::apply
