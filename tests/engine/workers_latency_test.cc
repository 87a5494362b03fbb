// A standby that is 10 ms away: how many rows arrive with 1, 2, 4 and 8 workers. Small groups, so
// that the trips are what takes time.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <system_error>
#include <thread>

#include "base/bytes.h"
#include "proto/row_block.h"
#include "tests/apply/apply_fixture.h"
#include "tests/engine/two_hosts.h"

namespace bitacora::apply {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kReceiverAddress = "192.168.1.105";
constexpr const char* kStandbyAddress = "192.168.1.106";
constexpr std::chrono::milliseconds kOneWay{5};
constexpr int kTransactionRows = 4;

engine::ThrowawayCluster standby_on(const harness::Host& host) {
  const harness::Visit visit(host);
  engine::ClusterOptions options;
  options.settings = {{"listen_addresses", "*"}, {"fsync", "off"}};
  auto made = engine::ThrowawayCluster::make("far", options);
  if (!made.ok()) throw std::runtime_error(one_line(made.error()));
  std::ofstream(made->directory() / "data" / "pg_hba.conf", std::ios::app)
      << "host all all " << kReceiverAddress << "/32 trust\n";
  harness::execute(made->conninfo(), "SELECT pg_reload_conf()");
  return std::move(made).value();
}

// Rows with numbers that go on from `next`, a few in each transaction.
class Arrivals {
 public:
  std::shared_ptr<const pb::ChangeBatch> batch(int transactions) {
    auto batch = std::make_shared<pb::ChangeBatch>();
    auto& relation = *batch->add_parts()->mutable_relation();
    relation.set_oid(kRelation);
    relation.set_schema("public");
    relation.set_name("arrival");
    auto& column = *relation.add_columns();
    column.set_name("n");
    column.set_type_oid(kInt8);
    column.set_type_modifier(-1);
    column.set_key(true);
    for (int i = 0; i < transactions; ++i) append_transaction(*batch);
    return batch;
  }
  MasterLsn end() const { return end_; }

 private:
  static constexpr std::uint32_t kRelation = 70001;
  static constexpr std::uint32_t kInt8 = 20;

  void append_transaction(pb::ChangeBatch& batch) {
    const auto begins = end_.value + 0x100;
    end_ = MasterLsn{begins + 0x80};
    batch.add_parts()->mutable_begin()->set_commit_lsn(begins);
    proto::RowBlockBuilder builder(kRelation, pb::INSERT);
    for (int row = 0; row < kTransactionRows; ++row) {
      std::string value;
      append_big_endian(value, ++number_);
      proto::Row tuple;
      tuple.new_tuple = {{proto::ValueKind::kBinary, value}};
      CHECK(builder.append(kRelation, pb::INSERT, tuple));
    }
    *batch.add_parts()->mutable_rows() = builder.finish();
    auto& commit = *batch.add_parts()->mutable_commit();
    commit.set_commit_lsn(begins);
    commit.set_end_lsn(end_.value);
  }

  std::int64_t number_ = 0;
  MasterLsn end_ = PlayedMaster::kStart;
};

struct Shape {
  const char* name;
  std::uint64_t group_rows;
  int groups;
};

// Rows per second.
double rate(const std::string& conninfo, const Shape& shape, unsigned workers) {
  harness::execute(conninfo,
                   "SET client_min_messages = warning; DROP SCHEMA IF EXISTS bitacora CASCADE;"
                   "DROP TABLE IF EXISTS arrival; CREATE TABLE arrival (n bigint PRIMARY KEY)");
  ApplierOptions options;
  options.group_rows_max = shape.group_rows;
  ApplySession session(conninfo, options, {}, workers);
  auto& applier = session.applier();
  Arrivals arrivals;
  const auto apply = [&](int groups) {
    const auto transactions = static_cast<int>(shape.group_rows) * groups / kTransactionRows;
    Result<void> applied = session.take(arrivals.batch(transactions));
    while (applied.ok() && applier.applied() < arrivals.end()) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      applied = applier.tick();
    }
    ASSERT_TRUE(applied.ok()) << one_line(applied.error());
  };
  apply(static_cast<int>(workers));  // prepares what is needed on every connection
  const auto before = applier.counts().rows;
  const auto begun = Clock::now();
  apply(shape.groups);
  const std::chrono::duration<double> took = Clock::now() - begun;
  return static_cast<double>(applier.counts().rows - before) / took.count();
}

TEST(WorkersLatency, MoreConnectionsHideTheDistance) try {
  const harness::Host receiver(kReceiverAddress);
  const harness::Host far(kStandbyAddress);
  harness::Wire to_standby(receiver, far);
  harness::Wire to_receiver(far, receiver);
  const auto cluster = standby_on(far);
  to_standby.set({.delay = kOneWay});
  to_receiver.set({.delay = kOneWay});
  const harness::Visit visit(receiver);
  const auto conninfo =
      fmt::format("host={} port={} dbname=postgres user=postgres", kStandbyAddress, cluster.port());
  for (const Shape& shape : {Shape{"20 rows a group, row by row", 20, 120},
                             Shape{"400 rows a group, as sets", 400, 60}}) {
    SCOPED_TRACE(shape.name);
    std::map<unsigned, double> rates;
    for (const unsigned workers : {1u, 2u, 4u, 8u}) {
      rates[workers] = rate(conninfo, shape, workers);
      std::cout << fmt::format("{}: {} workers {:.0f} rows/s, {:.1f} x\n", shape.name, workers,
                               rates[workers], rates[workers] / rates[1])
                << std::flush;
    }
    EXPECT_GE(rates[4], 1.5 * rates[1]);
  }
} catch (const std::system_error& error) {
  if (!harness::is_not_offered(error.code())) throw;
  GTEST_SKIP() << "needs root, network namespaces and /dev/net/tun: " << error.what();
}

}  // namespace
}  // namespace bitacora::apply
