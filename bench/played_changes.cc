#include "bench/played_changes.h"

#include <array>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string_view>

#include "base/bytes.h"
#include "tests/wal/pgoutput_samples.h"
#include "wal/batch_builder.h"

namespace bitacora::bench {
namespace {

using wal::samples::Bytes;

constexpr std::size_t kTransactions = 500;
constexpr std::size_t kTrickle = 4;  // transactions
constexpr int kBulkRows = 2000;
constexpr std::uint32_t kTellers = 2;
constexpr std::uint32_t kBranches = 3;
constexpr std::uint32_t kHistory = 4;
constexpr std::uint32_t kInt4 = 23;
constexpr std::uint32_t kInt8 = 20;
constexpr std::uint32_t kText = 25;
constexpr std::uint32_t kBpchar = 1042;
constexpr std::uint32_t kTimestamptz = 1184;
constexpr std::uint32_t kNoModifier = 0xffffffff;
constexpr std::uint64_t kCommitBytes = 100;  // of WAL

struct Column {
  const char* name;
  std::uint32_t type;
};

// The first column is the key.
std::string relation(std::uint32_t oid, const char* name, const std::vector<Column>& columns) {
  Bytes message('R');
  message.int32(oid).string("public").string(name).byte('d');
  message.int16(static_cast<std::int16_t>(columns.size()));
  for (std::size_t i = 0; i < columns.size(); ++i)
    message.column(i == 0 ? 1 : 0, columns[i].name, columns[i].type, kNoModifier);
  return message;
}

template <class Integer>
std::string big_endian(Integer value) {
  std::string bytes;
  append_big_endian(bytes, value);
  return bytes;
}

std::string number(std::int32_t value) { return big_endian(value); }
std::string moment(std::int64_t value) { return big_endian(value); }

std::string row(char kind, std::uint32_t oid, const std::vector<std::string>& values) {
  Bytes message(kind);
  message.int32(oid).byte('N').int16(static_cast<std::int16_t>(values.size()));
  for (const auto& value : values) message.binary(value);
  return message;
}

std::string begin(std::uint64_t commit) {
  return Bytes('B')
      .int64(static_cast<std::int64_t>(commit))
      .int64(wal::samples::kTimeOnWire)
      .int32(static_cast<std::uint32_t>(commit));
}

std::string end(std::uint64_t commit) {
  const auto lsn = static_cast<std::int64_t>(commit);
  return Bytes('C').int8(0).int64(lsn).int64(lsn + 1).int64(wal::samples::kTimeOnWire);
}

PlayedChanges transactions(const char* name, std::size_t count) {
  PlayedChanges changes{name, {}, 4 * count, 4};
  auto& messages = changes.messages;
  std::mt19937 random(1);
  const std::string filler(84, ' ');
  const auto between = [&](unsigned most) {
    return static_cast<std::int32_t>(random() % most + 1);
  };
  for (std::uint64_t i = 1; i <= count; ++i) {
    const auto account = between(1'000'000);
    const auto teller = between(100);
    const auto branch = between(10);
    const auto delta = between(10'000) - 5000;
    messages.push_back(begin(i * kCommitBytes));
    if (i == 1) {
      messages.push_back(
          relation(kAccounts, "pgbench_accounts",
                   {{"aid", kInt4}, {"bid", kInt4}, {"abalance", kInt4}, {"filler", kBpchar}}));
      for (const auto oid : {kTellers, kBranches}) {
        messages.push_back(relation(oid, oid == kTellers ? "pgbench_tellers" : "pgbench_branches",
                                    {{"id", kInt4}, {"bid", kInt4}, {"balance", kInt4}}));
      }
      messages.push_back(relation(kHistory, "pgbench_history",
                                  {{"tid", kInt4},
                                   {"bid", kInt4},
                                   {"aid", kInt4},
                                   {"delta", kInt4},
                                   {"mtime", kTimestamptz}}));
    }
    messages.push_back(
        row('U', kAccounts, {number(account), number(branch), number(delta), filler}));
    messages.push_back(row('U', kTellers, {number(teller), number(branch), number(delta)}));
    messages.push_back(row('U', kBranches, {number(branch), number(branch), number(delta)}));
    messages.push_back(row('I', kHistory,
                           {number(teller), number(branch), number(account), number(delta),
                            moment(static_cast<std::int64_t>(i) * 1000)}));
    messages.push_back(end(i * kCommitBytes));
  }
  return changes;
}

}  // namespace

std::size_t PlayedChanges::bytes() const {
  std::size_t sum = 0;
  for (const auto& message : messages) sum += message.size();
  return sum;
}

PlayedChanges small_transactions() { return transactions("small", kTransactions); }

PlayedChanges trickle() { return transactions("trickle", kTrickle); }

PlayedChanges bulk_insert() {
  PlayedChanges changes{"bulk", {begin(kCommitBytes)}, kBulkRows, 10};
  auto& messages = changes.messages;
  messages.push_back(relation(kOrders, "orders",
                              {{"id", kInt8},
                               {"customer", kInt4},
                               {"product", kInt4},
                               {"quantity", kInt4},
                               {"price", kInt8},
                               {"total", kInt8},
                               {"code", kText},
                               {"note", kText},
                               {"paid", kInt4},
                               {"made", kTimestamptz}}));
  for (int i = 1; i <= kBulkRows; ++i) {
    messages.push_back(row('I', kOrders,
                           {moment(i), number(i % 9973), number(i % 997), number(i % 9),
                            moment(i % 10'000), moment(i % 90'000), fmt::format("code {}", i),
                            fmt::format("a note of some length for order {}", i), number(i % 2),
                            moment(i * 1'000'000LL)}));
  }
  messages.push_back(end(kCommitBytes));
  return changes;
}

std::vector<PlayedChanges> played_changes() {
  return {small_transactions(), trickle(), bulk_insert()};
}

proto::EncodedBatch encoded(const PlayedChanges& changes) {
  wal::PgOutputDecoder decoder(kPlayedOptions);
  wal::BatchBuilder builder;
  for (const auto& message : changes.messages) {
    const auto decoded = decoder.decode(message);
    if (!decoded.ok() || !builder.append(**decoded).ok())
      throw std::logic_error("a played message is not one of pgoutput");
  }
  return builder.take();
}

std::vector<pb::Rows> blocks(const PlayedChanges& changes, std::uint32_t relation_oid) {
  const auto batch = proto::parse_batch(encoded(changes).bytes);
  if (batch == nullptr) throw std::logic_error("not a batch");
  std::vector<pb::Rows> found;
  for (const auto& part : batch->parts()) {
    if (part.has_rows() && part.rows().relation_oid() == relation_oid) found.push_back(part.rows());
  }
  return found;
}

}  // namespace bitacora::bench
