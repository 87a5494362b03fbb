#include "wal/catch_up_reader.h"

#include <future>
#include <thread>

#include <fmt/format.h>

#include "tests/postgres/database.h"
#include "tests/wal/collecting_sink.h"
#include "tests/wal/reader_fixture.h"
#include "wal/live_reader.h"

namespace bitacora::wal {
namespace {

using harness::eventually;

class CatchUpReaderTest : public ReaderFixture {
 protected:
  // Everything is far away, and comes in many ranges.
  CatchUpOptions options() const {
    auto options = reader_options<CatchUpOptions>(conninfo());
    options.fetch.near_bytes = 1;
    options.fetch.range_bytes = 100'000;
    return options;
  }
  LiveReaderOptions live_options() const { return reader_options<LiveReaderOptions>(conninfo()); }

  Result<CatchUpEnd> catch_up(const CatchUpOptions& options) {
    return CatchUpReader(options, sink_).run(start_, {});
  }

  // Transactions of all kinds, about 2 MB of WAL.
  void write_history() const {
    sql("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) AS i");
    for (int i = 0; i < 20; ++i) {
      sql(
          fmt::format("BEGIN; INSERT INTO t SELECT i, repeat(md5(i::text), 20)"
                      " FROM generate_series({0}, {0} + 99) AS i;"
                      " UPDATE t SET v = 'y' WHERE id % 10 = {1}; SAVEPOINT s;"
                      " DELETE FROM t WHERE id % 7 = 0; ROLLBACK TO s;"
                      " DELETE FROM t WHERE id = {1}; COMMIT",
                      10'000 + 100 * i, i));
      sql("BEGIN; DELETE FROM t; ROLLBACK");
    }
    sql("TRUNCATE t");
  }

  std::string slots() const {
    return value("SELECT string_agg(slot_name, ' ') FROM pg_replication_slots");
  }

  CollectingSink sink_;
};

// What is there but for where batches begin: rows of one shape in one line of bytes.
std::string changes_in(const std::vector<pb::Part>& parts) {
  std::string text;
  std::string shape;
  for (const auto& part : parts) {
    if (part.has_idle_position() || part.has_relation()) continue;
    if (!part.has_rows()) {
      text += part.ShortDebugString() + "\n";
      shape.clear();
      continue;
    }
    const auto& rows = part.rows();
    const auto its_shape =
        fmt::format("{} {}\n", pb::RowOperation_Name(rows.operation()), rows.relation_oid());
    if (its_shape != std::exchange(shape, its_shape)) text += its_shape;
    text += rows.tuples();
  }
  return text;
}

TEST_P(CatchUpReaderTest, BringsWhatTheLiveReaderBrings) {
  write_history();
  const auto end = catch_up(options());
  ASSERT_TRUE(succeeded(end));
  EXPECT_EQ(*end, CatchUpEnd::kNear);
  EXPECT_EQ(sink_.commits(), 22u);

  CollectingSink live_sink;
  WakeUp wake_up;
  std::stop_source stop;
  LiveReader live(live_options(), live_sink, wake_up);
  auto running = std::async(std::launch::async, [&] { return live.run(start_, stop.get_token()); });
  EXPECT_TRUE(eventually([&] { return live_sink.commits() >= 22; }));
  stop.request_stop();
  wake_up.signal();
  EXPECT_TRUE(succeeded(running.get()));
  EXPECT_EQ(changes_in(sink_.parts()), changes_in(live_sink.parts()));
}

TEST_P(CatchUpReaderTest, LeavesTheSlotAloneAndNoOtherBehind) {
  write_history();
  const auto before = confirmed();
  ASSERT_TRUE(succeeded(catch_up(options())));
  EXPECT_EQ(confirmed(), before);
  EXPECT_TRUE(eventually([&] { return slots() == "main"; })) << slots();
}

// Rule I1: as far as the sink says, and no further.
TEST_P(CatchUpReaderTest, MovesTheSlotOnceEnoughIsDurable) {
  write_history();
  const MasterLsn durable{start_.value + 150'000};
  sink_.confirm(durable);
  auto options = this->options();
  options.confirm_bytes = 100'000;
  ASSERT_TRUE(succeeded(catch_up(options)));
  EXPECT_EQ(confirmed(), durable);
}

// What the sink answers it takes for told: nobody who is behind that is let in any more.
TEST_P(CatchUpReaderTest, AsksTheSinkOnlyWhenTheSlotIsMoved) {
  write_history();
  sink_.confirm(MasterLsn{start_.value + 150'000});
  const auto before = confirmed();
  ASSERT_TRUE(succeeded(catch_up(options())));
  EXPECT_EQ(confirmed(), before);
  EXPECT_EQ(sink_.times_asked(), 0u);
}

TEST_P(CatchUpReaderTest, LeavesMovingTheSlotToOthers) {
  write_history();
  const auto before = confirmed();
  sink_.confirm({start_.value + 150'000});
  auto options = this->options();
  options.confirm_bytes.reset();
  options.fetch.begin_below_bytes = 1;
  ASSERT_TRUE(succeeded(catch_up(options)));
  EXPECT_EQ(sink_.commits(), 22u);
  EXPECT_EQ(confirmed(), before);
}

// Who joins a reader in the middle needs what was described before.
TEST_P(CatchUpReaderTest, BatchesTellWhatTheyDescribe) {
  write_history();
  ASSERT_TRUE(succeeded(catch_up(options())));
  std::size_t relations = 0;
  for (const auto& part : sink_.parts()) relations += part.has_relation() ? 1u : 0u;
  std::size_t told = 0;
  for (const auto& batch : sink_.batches()) {
    if (batch->described) told += static_cast<std::size_t>(batch->described->parts_size());
  }
  EXPECT_GT(relations, 0u);
  EXPECT_EQ(told, relations);
}

// While somebody writes, from one to the other and back, each transaction once.
TEST_P(CatchUpReaderTest, TheLiveReaderGoesOnWhereItEnds) {
  std::jthread writer([this](const std::stop_token& stop) {
    for (int id = 1; !stop.stop_requested(); ++id)
      sql(fmt::format("INSERT INTO t VALUES ({}, 'x')", id));
  });
  std::vector<pb::Part> parts;
  auto from = start_;
  for (int turn = 0; turn < 6; ++turn) {
    ASSERT_TRUE(
        eventually([&] { return (*master().current_wal_lsn()).value > from.value + 10'000; }));
    CollectingSink sink;
    WakeUp wake_up;
    std::stop_source stop;
    if (turn % 2 == 0) {
      auto options = this->options();
      options.fetch.near_bytes = 3'000;
      const auto end = CatchUpReader(options, sink).run(from, {});
      ASSERT_TRUE(succeeded(end));
      EXPECT_EQ(*end, CatchUpEnd::kNear);
    } else {
      LiveReader live(live_options(), sink, wake_up);
      auto running =
          std::async(std::launch::async, [&] { return live.run(from, stop.get_token()); });
      EXPECT_TRUE(eventually([&] { return sink.commits() >= 20; }));
      sink.want_restart();
      wake_up.signal();
      EXPECT_TRUE(succeeded(running.get()));
    }
    from = std::max(from, sink.end_lsn());
    for (const auto& part : sink.parts()) parts.push_back(part);
  }
  writer.request_stop();
  writer.join();
  int id = 0;
  for (const auto& part : parts) {
    if (!part.has_rows()) continue;
    proto::Row row;
    for (proto::RowBlockReader reader(part.rows(), 2); !reader.done();) {
      ASSERT_TRUE(succeeded(reader.next(row)));
      ASSERT_EQ(load_big_endian<std::int32_t>(row.new_tuple[0].bytes.data()), ++id);
    }
  }
  EXPECT_GT(id, 40);
}

TEST_P(CatchUpReaderTest, LeavesOutWhatTheReceiverHas) {
  sql("INSERT INTO t VALUES (1, 'before')");
  const auto has = *master().current_wal_lsn();
  sql("INSERT INTO t VALUES (2, 'after')");
  ASSERT_TRUE(succeeded(CatchUpReader(options(), sink_).run(has, {})));
  EXPECT_EQ(sink_.commits(), 1u);
}

// Someone else's writes only: that there is nothing is news, too.
TEST_P(CatchUpReaderTest, MovesOnWithoutChanges) {
  sql("CREATE TEMPORARY TABLE scratch AS SELECT 1; CREATE TABLE u (v text); DROP TABLE u");
  const auto written = *master().current_wal_lsn();
  ASSERT_TRUE(succeeded(catch_up(options())));
  for (const auto& part : sink_.parts()) EXPECT_FALSE(part.has_rows());  // 14 tells of empty ones
  EXPECT_GE(sink_.end_lsn(), written);
}

TEST_P(CatchUpReaderTest, WhatIsTooLargeIsLeftToTheLiveReader) {
  write_history();
  auto options = this->options();
  options.fetch.read_bytes_max = 300'000;
  const auto end = catch_up(options);
  ASSERT_TRUE(succeeded(end));
  EXPECT_EQ(*end, CatchUpEnd::kTooLarge);
  EXPECT_LT(sink_.end_lsn().value, start_.value + 500'000);
}

TEST_P(CatchUpReaderTest, WithoutAFreeSlotItSaysSoAndDoesNotWait) {
  for (int i = 0;; ++i) {
    if (!create_slot(conninfo(), fmt::format("other_{}", i)).ok()) break;
  }
  const auto refused = catch_up(options());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kMaster);
  EXPECT_FALSE(refused.error().heals()) << one_line(refused.error());
}

TEST_P(CatchUpReaderTest, EndsAtOnceWhenAskedInsideARange) {
  write_history();
  sink_.accept_at_most(1);
  auto options = this->options();
  options.fetch.range_bytes = 10'000'000;
  options.batch_bytes = 1000;
  std::stop_source stop;
  CatchUpReader reader(options, sink_);
  auto running =
      std::async(std::launch::async, [&] { return reader.run(start_, stop.get_token()); });
  ASSERT_TRUE(eventually([&] { return sink_.refusals() > 0; }));
  stop.request_stop();
  ASSERT_EQ(running.wait_for(std::chrono::seconds(3)), std::future_status::ready);
  const auto end = running.get();
  ASSERT_TRUE(succeeded(end));
  EXPECT_EQ(*end, CatchUpEnd::kRestart);
}

TEST_P(CatchUpReaderTest, AMasterThatGoesAwayHeals) {
  write_history();
  sink_.accept_at_most(1);
  auto options = this->options();
  options.fetch.range_bytes = 10'000'000;
  options.fetch.ahead_bytes = 1;
  options.batch_bytes = 1000;
  CatchUpReader reader(options, sink_);
  auto running = std::async(std::launch::async, [&] { return reader.run(start_, {}); });
  ASSERT_TRUE(eventually([&] { return sink_.refusals() > 0; }));
  sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'");
  sink_.accept_at_most(std::numeric_limits<std::size_t>::max());
  const auto ended = running.get();
  // What the master had sent before is taken; then the connection is gone.
  ASSERT_FALSE(ended.ok());
  EXPECT_TRUE(ended.error().heals()) << one_line(ended.error());
}

ON_EVERY_VERSION(CatchUpReaderTest);

}  // namespace
}  // namespace bitacora::wal
