// Which transactions are applied when, and what the progress row says.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <optional>
#include <thread>

#include "tests/apply/apply_fixture.h"

namespace bitacora::apply {
namespace {

constexpr const char* kTable = "CREATE TABLE t (id int PRIMARY KEY, v text)";

void must(const Result<void>& result) { ASSERT_TRUE(result.ok()) << one_line(result.error()); }

std::string insert(int id) { return "INSERT INTO t VALUES (" + std::to_string(id) + ", 'x')"; }

class ApplierProgress : public ApplyTest {
 protected:
  ApplierProgress() : played_(master()) { on_both(played_, kTable); }

  std::string ids() const {
    return standby_value("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM t");
  }

  PlayedMaster played_;
};

TEST_F(ApplierProgress, MovesWithTheDataAndKeepsTheMastersCommitTime) {
  ApplySession session(standby());
  played_.transaction({insert(1), insert(2)});
  played_.transaction({insert(3)});
  must(session.take(played_.take()));
  EXPECT_EQ(ids(), "1 2 3");
  EXPECT_EQ(progress(), lsn(played_));
  EXPECT_EQ(session.applier().applied(), played_.end());
  EXPECT_EQ(session.applier().counts().transactions, 2u);
  EXPECT_EQ(session.applier().counts().rows, 3u);
  EXPECT_EQ(session.applier().counts().commit_time_usec, 1'718'100'000'000'000);
  EXPECT_EQ(standby_value("SELECT extract(epoch FROM commit_time)::bigint FROM bitacora.progress"),
            "1718100000");
}

TEST_F(ApplierProgress, WhatWasAppliedBeforeIsSkipped) {
  played_.transaction({insert(1)});
  played_.transaction({insert(2)});
  const auto batch = played_.take();
  {
    ApplySession session(standby());
    must(session.take(batch));
    must(session.take(batch));  // once more in the same session
    EXPECT_EQ(session.applier().counts().transactions, 2u);
  }
  played_.reconnect();
  played_.transaction({"UPDATE t SET v = 'y' WHERE id = 1", insert(3)});
  ApplySession session(standby());
  must(session.take(batch));
  EXPECT_EQ(session.applier().counts().transactions, 0u);
  must(session.take(played_.take()));
  EXPECT_EQ(session.applier().counts().transactions, 1u);
  EXPECT_EQ(ids(), "1 2 3");
  EXPECT_EQ(progress(), lsn(played_));
}

// Two batches with the cut inside the transaction.
TEST_F(ApplierProgress, ATransactionMaySpanBatches) {
  played_.begin();
  played_.change(insert(1));
  const auto first = played_.take();
  played_.change("UPDATE t SET v = 'y' WHERE id = 1");
  const auto middle = played_.take();
  played_.change(insert(2));
  played_.commit();
  const auto last = played_.take();
  for (const bool again : {false, true}) {  // the second time all of it is skipped
    SCOPED_TRACE(again);
    ApplySession session(standby());
    must(session.take(first));
    must(session.take(middle));
    EXPECT_EQ(ids(), again ? "1 2" : "");
    must(session.take(last));
    EXPECT_EQ(ids(), "1 2");
    EXPECT_EQ(progress(), lsn(played_));
    EXPECT_EQ(session.applier().counts().transactions, again ? 0u : 1u);
  }
  EXPECT_EQ(content("public.t"), harness::table_content(master(), "public.t"));
}

TEST_F(ApplierProgress, ACompleteTransactionIsNotHeldBackByAnIncompleteOne) {
  ApplySession session(standby());
  played_.transaction({insert(1)});
  const std::string complete = lsn(played_);
  played_.begin();
  played_.change(insert(2));
  must(session.take(played_.take()));
  EXPECT_EQ(ids(), "1") << "in the same batch";
  EXPECT_EQ(progress(), complete);
  played_.commit();
  played_.transaction({insert(3)});
  must(session.take(played_.take(), true));  // waits for more
  played_.begin();
  played_.change(insert(4));
  must(session.take(played_.take(), true));
  EXPECT_EQ(ids(), "1 2 3") << "in a batch before";
  played_.commit();
  must(session.take(played_.take()));
  EXPECT_EQ(ids(), "1 2 3 4");
}

TEST_F(ApplierProgress, AGroupGoesOnWhileMoreIsWaitingUpToItsLimit) {
  ApplierOptions options;
  options.group_rows_max = 3;
  ApplySession session(standby(), options);
  played_.transaction({insert(1)});
  must(session.take(played_.take(), true));
  EXPECT_EQ(ids(), "") << "the group goes on";
  EXPECT_FALSE(session.applier().needs_tick());
  played_.transaction({insert(2)});
  played_.transaction({insert(3)});
  const std::string full = lsn(played_);
  played_.transaction({insert(4)});
  must(session.take(played_.take(), true));
  EXPECT_EQ(ids(), "1 2 3") << "it was full";
  EXPECT_EQ(progress(), full);
  played_.transaction({insert(5)});
  must(session.take(played_.take(), false));
  EXPECT_EQ(ids(), "1 2 3 4 5");
}

TEST_F(ApplierProgress, AnIdlePositionMovesTheRowAtATick) {
  ApplySession session(standby());
  played_.transaction({insert(1)});
  must(session.take(played_.take()));
  const std::string before = progress();
  played_.idle();
  must(session.take(played_.take()));
  EXPECT_EQ(progress(), before) << "not a commit for every keepalive";
  EXPECT_TRUE(session.applier().needs_tick());
  EXPECT_TRUE(harness::eventually([&] {
    must(session.applier().tick());
    return session.applier().applied() == played_.end();
  }));
  EXPECT_EQ(progress(), lsn(played_));
  EXPECT_EQ(session.applier().counts().transactions, 1u);
  EXPECT_EQ(standby_value("SELECT extract(epoch FROM commit_time)::bigint FROM bitacora.progress"),
            "1718100000")
      << "the last transaction's";
}

// A row beyond it would be taken for another life's, and its transactions applied once more.
TEST_F(ApplierProgress, DoesNotGoPastItsEnd) {
  played_.transaction({insert(1)});
  const std::string end = lsn(played_);
  ApplierOptions options;
  options.until = played_.end();
  ApplySession session(standby(), options);
  played_.transaction({insert(2)});
  played_.idle();
  must(session.take(played_.take()));
  EXPECT_EQ(progress(), end) << "in the batch of the last transaction";
  played_.idle();
  must(session.take(played_.take()));
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  must(session.applier().tick());
  EXPECT_EQ(progress(), end) << "at a tick";
  EXPECT_EQ(ids(), "1");
}

TEST_F(ApplierProgress, ATickDoesNotTouchAnOpenTransaction) {
  ApplySession session(standby());
  played_.idle();
  played_.begin();
  played_.change(insert(1));
  must(session.take(played_.take()));
  const std::string before = progress();
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  must(session.applier().tick());
  EXPECT_EQ(progress(), before);
  played_.commit();
  must(session.take(played_.take()));
  EXPECT_EQ(progress(), lsn(played_));
}

// The standby's WAL writer, which flushes what was committed asynchronously, stands still.
class StoppedWalWriter {
 public:
  explicit StoppedWalWriter(const std::string& conninfo)
      : pid_(std::stoi(harness::query_value(
            conninfo, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"))) {
    kill(pid_, SIGSTOP);
  }
  StoppedWalWriter(const StoppedWalWriter&) = delete;
  StoppedWalWriter& operator=(const StoppedWalWriter&) = delete;
  ~StoppedWalWriter() { kill(pid_, SIGCONT); }

 private:
  pid_t pid_;
};

TEST_F(ApplierProgress, DurableFollowsApplied) {
  ApplySession session(standby());
  auto& applier = session.applier();
  EXPECT_EQ(applier.durable(), PlayedMaster::kStart);
  {
    const StoppedWalWriter stopped(standby());
    played_.transaction({insert(1)});
    must(session.take(played_.take()));
    EXPECT_EQ(applier.applied(), played_.end());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    must(applier.tick());
    EXPECT_EQ(applier.durable(), PlayedMaster::kStart) << "committed asynchronously";
    EXPECT_TRUE(applier.needs_tick());
  }
  EXPECT_TRUE(harness::eventually([&] {
    must(applier.tick());
    return applier.durable() == played_.end();
  }));
  EXPECT_FALSE(applier.needs_tick());
}

// A full spool has no room for its end before.
TEST_F(ApplierProgress, InsideAnOpenTransactionToo) {
  ApplySession session(standby());
  auto& applier = session.applier();
  std::optional<StoppedWalWriter> stopped(standby());
  played_.transaction({insert(1)});
  must(session.take(played_.take()));
  const auto first = played_.end();
  played_.begin();
  played_.change(insert(2));
  must(session.take(played_.take()));
  stopped.reset();
  EXPECT_TRUE(harness::eventually([&] {
    must(applier.tick());
    return applier.durable() == first;
  }));
  played_.commit();
  must(session.take(played_.take()));
  EXPECT_EQ(progress(), lsn(played_));
}

TEST_F(ApplierProgress, OfTablesLeftOutMovesAllTheSame) {
  played_.execute("CREATE TABLE otra (a int PRIMARY KEY)");
  ApplySession session(standby(), {}, TablePatterns::parse({"!otra"}).value());
  played_.begin();
  played_.change("INSERT INTO otra VALUES (1)");
  played_.change(insert(1));
  played_.truncate({"otra"});
  played_.commit();
  played_.transaction({"INSERT INTO otra VALUES (2)"});
  must(session.take(played_.take()));
  EXPECT_EQ(ids(), "1");
  EXPECT_EQ(progress(), lsn(played_));
}

TEST_F(ApplierProgress, ATableDescribedAnewIsPlannedAnew) {
  ApplySession session(standby());
  played_.transaction({insert(1)});
  must(session.take(played_.take()));
  on_both(played_, "ALTER TABLE t ADD n int, ALTER v TYPE int USING 7");
  played_.transaction({"INSERT INTO t VALUES (2, 8, 9)", "UPDATE t SET n = 1 WHERE id = 1"});
  must(session.take(played_.take()));
  EXPECT_EQ(content("public.t"), "(1,7,1)\n(2,8,9)");
}

TEST_F(ApplierProgress, TruncateEmptiesSeveralTablesAtOnce) {
  on_both(played_, "CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (a int REFERENCES a)");
  on_standby("CREATE TABLE child () INHERITS (t); INSERT INTO child VALUES (9, 'suyo')");
  for (const std::uint64_t one_trip_rows_max : {64u, 0u}) {
    for (const bool restart : {false, true}) {
      SCOPED_TRACE(testing::Message() << one_trip_rows_max << " " << restart);
      ApplierOptions options;
      options.one_trip_rows_max = one_trip_rows_max;
      ApplySession session(standby(), options);
      on_standby("SELECT setval('a_id_seq', 41)");
      played_.reconnect();
      played_.begin();
      for (const char* sql : {"INSERT INTO a VALUES (1)", "INSERT INTO b VALUES (1)"}) {
        played_.change(sql);
      }
      played_.truncate({"a", "b", "t"}, restart);
      played_.change(insert(2));
      played_.commit();
      must(session.take(played_.take()));
      EXPECT_EQ(standby_value("SELECT count(*) FROM a, b"), "0");
      EXPECT_EQ(ids(), "2 9") << "the one inserted after it, and the child's";
      EXPECT_EQ(standby_value("SELECT nextval('a_id_seq')"), restart ? "1" : "42");
    }
  }
}

}  // namespace
}  // namespace bitacora::apply
