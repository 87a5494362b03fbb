#include "transport/replication_service.h"

#include <gtest/gtest.h>

#include <future>
#include <random>
#include <thread>

#include "tests/postgres/database.h"
#include "tests/transport/sender_under_test.h"

namespace bitacora::transport {
namespace {

using Clock = std::chrono::steady_clock;
using harness::eventually;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kSeed = 20240611;

// Some rows of bytes that do not compress.
pb::ChangeBatch changes(std::uint64_t number, std::size_t bytes) {
  std::mt19937_64 random(kSeed + number);
  pb::ChangeBatch batch;
  pb::Rows& rows = *batch.add_parts()->mutable_rows();
  rows.set_count(static_cast<std::uint32_t>(number));
  for (std::size_t i = 0; i < bytes; ++i)
    rows.mutable_tuples()->push_back(static_cast<char>(random()));
  return batch;
}

proto::SharedBatch encoded(const pb::ChangeBatch& changes, std::uint64_t end_lsn) {
  return std::make_shared<const proto::EncodedBatch>(
      proto::EncodedBatch{.bytes = changes.SerializeAsString(), .end_lsn = {end_lsn}});
}

proto::SharedBatch numbered(std::uint64_t number, std::size_t bytes = 100) {
  return encoded(changes(number, bytes), number);
}

bool offer(SenderUnderTest& sender, const proto::SharedBatch& batch,
           milliseconds patience = seconds(10)) {
  return sender.hub().offer(batch, Clock::now() + patience);
}

constexpr seconds kPatience{20};

struct ReceivedBatch {
  std::shared_ptr<pb::ChangeBatch> changes;
  MasterLsn end_lsn;
  std::uint64_t sequence;  // of its last frame
};

// The next batch, heartbeats skipped.
Result<ReceivedBatch> next_batch(SenderConnection& connection) {
  const auto deadline = Clock::now() + kPatience;
  while (Clock::now() < deadline) {
    ASSIGN_OR_RETURN(auto event, connection.next());
    auto* received = std::get_if<ReceivedFrame>(&event);
    if (received == nullptr || !received->changes) continue;
    return ReceivedBatch{std::move(received->changes), MasterLsn{received->frame.end_lsn()},
                         received->frame.sequence()};
  }
  return Error{ErrorCode::kInternal, "no batch comes"};
}

// Why the connection ended; what still came before it is dropped.
Error ending(SenderConnection& connection) {
  const auto deadline = Clock::now() + kPatience;
  while (Clock::now() < deadline) {
    const auto event = connection.next();
    if (!event.ok()) return event.error();
  }
  return Error{ErrorCode::kInternal, "the connection does not end"};
}

pb::Ack ack(std::uint64_t sequence, std::uint64_t lsn = 0) {
  pb::Ack ack;
  ack.set_frames(sequence);
  ack.set_received_lsn(lsn);
  ack.set_flushed_lsn(lsn);
  ack.set_applied_lsn(lsn);
  return ack;
}

void expect_numbers(SenderConnection& connection, std::uint64_t first, std::uint64_t last) {
  for (auto number = first; number <= last; ++number) {
    const auto batch = next_batch(connection);
    ASSERT_TRUE(batch.ok()) << one_line(batch.error());
    EXPECT_EQ(batch->end_lsn, MasterLsn{number});
    EXPECT_EQ(batch->changes->parts(0).rows().count(), number);
  }
}

TEST(ReplicationService, BatchesArriveInOrderAndEqual) {
  SenderUnderTest sender;
  const auto connection = sender.connect("a");
  EXPECT_EQ(connection->welcome().server_version(), 150000u);
  const std::vector<std::size_t> sizes{0,       1,         1000,
                                       300'000, 2'000'000, 7};  // some of several frames
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    ASSERT_TRUE(offer(sender, encoded(changes(i, sizes[i]), i == 1 ? 0 : i + 10)));
  }
  std::uint64_t sequence = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    SCOPED_TRACE(i);
    const auto batch = next_batch(*connection);
    ASSERT_TRUE(batch.ok()) << one_line(batch.error());
    EXPECT_EQ(batch->changes->SerializeAsString(), changes(i, sizes[i]).SerializeAsString());
    EXPECT_EQ(batch->end_lsn, MasterLsn{i == 1 ? 0 : i + 10});
    EXPECT_GT(batch->sequence, sequence);
    sequence = batch->sequence;
  }
  EXPECT_GT(sequence, sizes.size()) << "the large ones were not split";
}

void expect_heartbeats(SenderConnection& connection) {
  auto last = Clock::now();
  for (int i = 0; i < 3; ++i) {
    const auto event = connection.next();
    ASSERT_TRUE(event.ok()) << one_line(event.error());
    const auto* heartbeat = std::get_if<pb::Heartbeat>(&*event);
    ASSERT_NE(heartbeat, nullptr);
    EXPECT_EQ(heartbeat->wal_lsn(), 4711u);
    EXPECT_LT(Clock::now() - last, milliseconds(2500));
    EXPECT_TRUE(i < 2 || Clock::now() - last > milliseconds(500)) << "not so often";
    last = Clock::now();
  }
}

TEST(ReplicationService, AHeartbeatComesEverySecond) {
  SenderUnderTest sender;
  const auto connection = sender.connect("a");
  expect_heartbeats(*connection);
}

TEST(ReplicationService, AlsoWhileTheWindowIsClosedAndPositionsMove) {
  SenderOptions options;
  options.service.inflight.frames_max = 1;
  SenderUnderTest sender(options);
  const auto connection = sender.connect("a");
  ASSERT_TRUE(offer(sender, numbered(1)));
  ASSERT_TRUE(offer(sender, numbered(2)));
  expect_numbers(*connection, 1, 1);
  std::jthread applying([&](const std::stop_token& stop) {
    for (std::uint64_t lsn = 1; !stop.stop_requested() && lsn < 50; ++lsn) {
      if (!connection->acknowledge(ack(0, lsn))) return;
      std::this_thread::sleep_for(milliseconds(100));  // a receiver that applies, a bit each time
    }
  });
  expect_heartbeats(*connection);
}

TEST(ReplicationService, AcknowledgementsReachTheHub) {
  SenderUnderTest sender;
  const auto connection = sender.connect("a");
  ASSERT_TRUE(offer(sender, numbered(1)));
  expect_numbers(*connection, 1, 1);
  auto positions = ack(1);
  positions.set_received_lsn(30);
  positions.set_flushed_lsn(20);
  positions.set_applied_lsn(10);
  ASSERT_TRUE(connection->acknowledge(positions));
  const ReceiverPositions expected{{30}, {20}, {10}};
  EXPECT_TRUE(eventually([&] { return sender.hub().slowest() == expected; }));
}

TEST(ReplicationService, TheWindowClosesAndOpens) {
  SenderOptions options;
  options.service.inflight.frames_max = 3;
  SenderUnderTest sender(options);
  const auto connection = sender.connect("a");
  for (std::uint64_t i = 1; i <= 6; ++i) ASSERT_TRUE(offer(sender, numbered(i)));
  expect_numbers(*connection, 1, 3);
  for (int i = 0; i < 2; ++i) {  // nothing but heartbeats
    const auto event = connection->next();
    ASSERT_TRUE(event.ok());
    EXPECT_TRUE(std::holds_alternative<pb::Heartbeat>(*event));
  }
  ASSERT_TRUE(connection->acknowledge(ack(2)));
  expect_numbers(*connection, 4, 5);
  ASSERT_TRUE(connection->acknowledge(ack(5)));
  expect_numbers(*connection, 6, 6);
}

TEST(ReplicationService, AnAcknowledgementOfWhatWasNeverSentEndsIt) {
  SenderUnderTest sender;
  const auto connection = sender.connect("a");
  ASSERT_TRUE(connection->acknowledge(ack(99, 1000)));
  EXPECT_TRUE(ending(*connection).heals());
  EXPECT_EQ(sender.hub().slowest()->flushed, MasterLsn{0}) << "nothing it says is believed";
}

// Takes batches and acknowledges each.
void take(SenderConnection& connection, std::uint64_t first, std::uint64_t last) {
  for (auto number = first; number <= last; ++number) {
    expect_numbers(connection, number, number);
    EXPECT_TRUE(connection.acknowledge(ack(number)));
  }
}

// Of the slow one, a batch is on its way, one waits for the window and one fills the queue.
TEST(ReplicationService, AFullQueueRefusesAndNobodyGetsABatchTwice) {
  SenderOptions options;
  options.service.inflight.frames_max = 1;
  options.queue_bytes_max = 1;
  SenderUnderTest sender(options);
  const auto quick = sender.connect("quick");
  const auto slow = sender.connect("slow");
  auto taken = std::async(std::launch::async, [&] { take(*quick, 1, 5); });
  for (std::uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(offer(sender, numbered(i)));
  const auto refused = numbered(4);
  EXPECT_FALSE(offer(sender, refused, milliseconds(200)));
  EXPECT_FALSE(offer(sender, refused, milliseconds(200)));
  take(*slow, 1, 1);
  ASSERT_TRUE(offer(sender, refused));
  take(*slow, 2, 2);
  ASSERT_TRUE(offer(sender, numbered(5)));
  take(*slow, 3, 5);
  taken.get();
}

TEST(ReplicationService, ANamesakeIsRefused) {
  SenderUnderTest sender;
  const auto first = sender.connect("a", "one");
  const auto second = sender.dial("a", "two");
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kConfiguration);
  EXPECT_FALSE(second.error().heals());
  EXPECT_NE(second.error().hint.find("--name"), std::string::npos);
  ASSERT_TRUE(offer(sender, numbered(1)));
  expect_numbers(*first, 1, 1);
}

TEST(ReplicationService, TheSameInstanceTakesOver) {
  SenderUnderTest sender;
  const auto first = sender.connect("a", "one");
  const auto again = sender.connect("a", "one");
  EXPECT_TRUE(ending(*first).heals());
  ASSERT_TRUE(offer(sender, numbered(1)));
  expect_numbers(*again, 1, 1);
  EXPECT_TRUE(sender.hub().receivers().at(0).connected);
}

TEST(ReplicationService, DisconnectAllEndsEveryConnectionAndHeals) {
  SenderUnderTest sender;
  const auto a = sender.connect("a");
  const auto b = sender.connect("b");
  sender.hub().disconnect_all();
  for (auto* connection : {a.get(), b.get()}) {
    const auto error = ending(*connection);
    EXPECT_EQ(error.code, ErrorCode::kNetwork);
    EXPECT_TRUE(error.heals()) << one_line(error);
  }
  const auto back = sender.connect("a", "one");
  ASSERT_TRUE(offer(sender, numbered(1)));
  expect_numbers(*back, 1, 1);
}

TEST(ReplicationService, JoiningBehindTheOthersAsksTheReaderToBeginAnew) {
  SenderUnderTest sender;
  const auto a = sender.connect("a");
  EXPECT_FALSE(sender.hub().wants_restart());
  const auto batch =
      std::make_shared<const proto::EncodedBatch>(proto::EncodedBatch{"", {9}, false});
  EXPECT_TRUE(sender.hub().offer(batch, SubscriptionHub::Clock::now()));
  const auto b = sender.dial("b");
  ASSERT_TRUE(b.ok());
  EXPECT_TRUE(sender.hub().wants_restart());
}

TEST(ReplicationService, AReceiverThatWentAwayStillHoldsTheSlot) {
  SenderUnderTest sender;
  sender.hub().restore_receiver("absent", MasterLsn{5});
  {
    const auto a = sender.connect("a");
    ASSERT_TRUE(a->acknowledge(ack(0, 9)));
    EXPECT_TRUE(eventually([&] {
      for (const auto& one : sender.hub().receivers()) {
        if (one.receiver == "a") return one.positions.flushed == MasterLsn{9};
      }
      return false;
    }));
    EXPECT_EQ(sender.hub().slowest()->flushed, MasterLsn{5});
  }
  EXPECT_TRUE(eventually([&] { return sender.hub().wants_restart(); })) << "nobody is left";
  for (const auto& one : sender.hub().receivers()) EXPECT_FALSE(one.connected) << one.receiver;
  EXPECT_EQ(sender.hub().slowest()->flushed, MasterLsn{5});
}

TEST(ReplicationService, WhoWithdrawsHoldsNothing) {
  SenderUnderTest sender;
  sender.hub().restore_receiver("known", MasterLsn{5});
  for (const char* name : {"new", "known"}) {
    const auto connection = sender.connect(name);
    ASSERT_TRUE(offer(sender, numbered(9)));
    connection->withdraw();
  }
  EXPECT_FALSE(sender.hub().is_registered("new"));
  EXPECT_TRUE(sender.hub().is_registered("known"));
}

TEST(ReplicationService, ARefusalCrossesWholeWithItsHint) {
  struct Case {
    std::string name;
    Error error;
  };
  const std::vector<Case> cases{
      {"state",
       {ErrorCode::kState, "falta WAL de 0/1 a 0/2: «bitácora»", "ñandú → añade\nuna línea"}},
      {"configuration", {ErrorCode::kConfiguration, "no", ""}},
      {"heals", {ErrorCode::kNetwork, "later", "wait", Recovery::kRetry}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    SenderUnderTest sender;
    sender.refuse_with(c.error);
    const auto refused = sender.dial("a");
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, c.error.code);
    EXPECT_EQ(refused.error().recovery, c.error.recovery);
    EXPECT_EQ(refused.error().hint, c.error.hint);
    EXPECT_NE(refused.error().message.find(c.error.message), std::string::npos)
        << one_line(refused.error());
  }
}

TEST(ReplicationService, AnotherWireVersionIsRefused) {
  SenderUnderTest sender;
  auto greeting = hello("a");
  greeting.set_wire_version(99);
  const auto refused = SenderConnection::open(sender.address(), {}, greeting);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kConfiguration);
  EXPECT_FALSE(refused.error().heals());
  EXPECT_NE(refused.error().message.find("99"), std::string::npos);
  EXPECT_FALSE(sender.hub().is_registered("a"));
}

constexpr const char* kMarker = "nobody may see this";

// A transaction of one row of the table with this OID; the first one describes both tables.
proto::SharedBatch row_of(std::uint32_t oid, std::uint64_t lsn, bool describes = false) {
  pb::ChangeBatch batch;
  for (std::uint32_t table = 1; describes && table <= 2; ++table) {
    auto& relation = *batch.add_parts()->mutable_relation();
    relation.set_oid(table);
    relation.set_name(table == 1 ? "open" : "secret");
  }
  batch.add_parts()->mutable_begin()->set_commit_lsn(lsn - 5);
  auto& rows = *batch.add_parts()->mutable_rows();
  rows.set_relation_oid(oid);
  rows.set_tuples(oid == 2 ? kMarker : "everybody may");
  batch.add_parts()->mutable_commit()->set_commit_lsn(lsn - 5);
  batch.mutable_parts(batch.parts_size() - 1)->mutable_commit()->set_end_lsn(lsn);
  proto::EncodedBatch made;
  made.bytes = proto::serialize_batch(batch);
  made.end_lsn = {lsn};
  return std::make_shared<const proto::EncodedBatch>(std::move(made));
}

SenderOptions without_secret() {
  SenderOptions options;
  options.takes = [](const std::string&, const std::string& table) { return table == "open"; };
  return options;
}

TEST(ReplicationService, NothingOfATableThatIsNotTakenCrosses) {
  SenderUnderTest sender(without_secret());
  const auto connection = sender.connect("a");
  ASSERT_TRUE(offer(sender, row_of(2, 100, true)));
  for (std::uint64_t lsn = 110; lsn < 300; lsn += 10)
    ASSERT_TRUE(offer(sender, row_of(lsn % 30 == 0 ? 1 : 2, lsn)));
  MasterLsn reached;
  int rows = 0;
  while (reached < MasterLsn{290}) {
    const auto batch = next_batch(*connection);
    ASSERT_TRUE(batch.ok()) << one_line(batch.error());
    const auto text = batch->changes->DebugString();
    EXPECT_EQ(text.find(kMarker), std::string::npos) << text;
    EXPECT_EQ(text.find("secret"), std::string::npos) << text;
    for (const auto& part : batch->changes->parts()) rows += part.has_rows() ? 1 : 0;
    reached = std::max(reached, batch->end_lsn);
  }
  EXPECT_EQ(rows, 6) << "120, 150, ... 270";
}

// While transactions come one after the other, a position now and then is enough; and the last one
// comes soon.
TEST(ReplicationService, WhatIsLeftOutMovesThePositionWithFewFrames) {
  SenderUnderTest sender(without_secret());
  const auto connection = sender.connect("a");
  constexpr std::uint64_t kTransactions = 20'000;
  const auto begun = Clock::now();
  std::jthread offering([&] {
    for (std::uint64_t i = 1; i <= kTransactions; ++i)
      EXPECT_TRUE(offer(sender, row_of(2, i * 10, i == 1)));
  });
  MasterLsn reached;
  std::uint64_t frames = 0;
  while (reached < MasterLsn{kTransactions * 10}) {
    const auto batch = next_batch(*connection);
    ASSERT_TRUE(batch.ok()) << one_line(batch.error());
    EXPECT_GT(batch->end_lsn, reached);
    reached = batch->end_lsn;
    const auto& last = batch->changes->parts(batch->changes->parts_size() - 1);
    EXPECT_EQ(MasterLsn{last.idle_position().lsn()}, reached);
    EXPECT_EQ(batch->changes->parts_size(), frames == 0 ? 2 : 1) << "the other table's description";
    connection->acknowledge(ack(++frames, reached.value));
  }
  EXPECT_LE(frames, 2 + (Clock::now() - begun) / milliseconds(20));
  EXPECT_TRUE(eventually([&] { return sender.hub().slowest()->flushed == reached; }));
  ASSERT_TRUE(offer(sender, row_of(2, kTransactions * 10 + 10)));
  const auto offered = Clock::now();
  const auto last = next_batch(*connection);
  ASSERT_TRUE(last.ok());
  EXPECT_EQ(last->end_lsn, MasterLsn{kTransactions * 10 + 10});
  EXPECT_LT(Clock::now() - offered, milliseconds(500)) << "not with the next heartbeat only";
}

TEST(ReplicationService, APortInUseIsAnError) {
  SenderUnderTest sender;
  SubscriptionHub hub({.queue_bytes_max = 1}, [] {});
  ReplicationService service(
      hub, [](const pb::Hello&, const Peer&) -> Result<Admission> { return Error{}; },
      [] { return pb::Heartbeat{}; });
  const auto second = ReplicationServer::start(sender.address(), {}, service);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(second.error().message.find(sender.address()), std::string::npos);
}

TEST(ReplicationService, ASenderThatEndsIsNoticed) {
  SenderUnderTest sender;
  const auto connection = sender.connect("a");
  ASSERT_TRUE(offer(sender, numbered(1)));
  expect_numbers(*connection, 1, 1);
  auto noticed = std::async(std::launch::async, [&] { return ending(*connection); });
  const auto asked = Clock::now();
  sender.stop();
  const auto error = noticed.get();
  EXPECT_LT(Clock::now() - asked, seconds(5));
  EXPECT_EQ(error.code, ErrorCode::kNetwork);
  EXPECT_TRUE(error.heals());
  EXPECT_FALSE(connection->acknowledge(ack(1)));
}

TEST(ReplicationService, NobodyListeningHeals) {
  SenderUnderTest sender;
  sender.stop();
  const auto refused = sender.dial("a");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kNetwork);
  EXPECT_TRUE(refused.error().heals());
}

TEST(ReplicationService, CancelEndsAWait) {
  SenderUnderTest sender;
  const auto connection = sender.connect("a");
  auto ended = std::async(std::launch::async, [&] { return ending(*connection); });
  connection->cancel();
  EXPECT_EQ(ended.wait_for(seconds(5)), std::future_status::ready);
  EXPECT_TRUE(eventually([&] { return !sender.hub().receivers().at(0).connected; }));
}

}  // namespace
}  // namespace bitacora::transport
