#include "tests/simulator/played_master.h"

#include <algorithm>

namespace bitacora::simulator {
namespace {

constexpr std::uint32_t kRelationOid = 16385;

constexpr std::uint32_t kStreamedRowsMin = 10;
constexpr std::uint32_t kNoise = 1'000'000;  // transactions and rows that do not count

template <class Builder>
void append(Builder& builder, const wal::PgOutputMessage& message) {
  const auto appended = builder.append(message);
  require(appended.ok(), "the reader refuses what the master sent");
}

wal::RowMessage row_message(const std::vector<std::string>& values, bool other,
                            std::uint32_t xid = 0) {
  wal::RowMessage message;
  message.xid = xid;
  message.relation_oid = kRelationOid + (other ? 1 : 0);
  for (const auto& value : values) {
    message.row.new_tuple.push_back({proto::ValueKind::kText, value});
  }
  return message;
}

}  // namespace

pb::Identity played_identity() {
  pb::Identity identity;
  identity.set_system_identifier(7012);
  identity.set_database("tienda");
  identity.set_slot("bitacora_main");
  identity.set_stream("main");
  return identity;
}

pb::Relation played_relation(std::uint32_t columns, bool other) {
  pb::Relation relation;
  relation.set_oid(kRelationOid + (other ? 1 : 0));
  relation.set_schema("public");
  relation.set_name(other ? "otros" : "datos");
  for (std::uint32_t i = 0; i < columns; ++i)
    relation.add_columns()->set_name(fmt::format("c{}", i));
  return relation;
}

std::vector<std::string> row_values(const PlayedTransaction& transaction, std::uint32_t row) {
  // Hardly compressible, so that contexts and windows fill.
  std::uint64_t noise = (transaction.xid * 1000 + row) * 0x9E3779B97F4A7C15;
  std::string value = fmt::format("{}/{}/", transaction.xid, row);
  for (auto length = noise % 50; length > 0; --length) {
    noise = noise * 6364136223846793005 + 1442695040888963407;
    value += static_cast<char>('!' + (noise >> 33) % 90);
  }
  std::vector<std::string> values(transaction.columns, "x");
  values.front() = value;
  return values;
}

void PlayedMaster::commit() {
  if (chance_.one_in(12)) ++columns_;
  PlayedTransaction transaction;
  transaction.xid = static_cast<std::uint32_t>(history_.size() + 1);
  transaction.commit_lsn = {wal_end_.value + chance_.below(3) * 20};
  transaction.end_lsn = {transaction.commit_lsn.value + 10 + chance_.below(30)};
  transaction.rows = static_cast<std::uint32_t>(chance_.one_in(8) ? chance_.between(15, 40)
                                                                  : chance_.between(1, 4));
  transaction.columns = columns_;
  transaction.other = chance_.one_in(2);
  wal_end_ = transaction.end_lsn;
  chance_.note("master: transaction {} with {} rows ends at {}", transaction.xid, transaction.rows,
               wal_end_);
  history_.push_back(transaction);
}

void PlayedMaster::write_other_wal() { wal_end_.value += 1 + chance_.below(60); }

std::size_t PlayedMaster::transactions_before(MasterLsn position) const {
  const auto first = std::partition_point(
      history_.begin(), history_.end(),
      [&](const PlayedTransaction& transaction) { return transaction.commit_lsn < position; });
  return static_cast<std::size_t>(first - history_.begin());
}

void PlayedMaster::confirm(MasterLsn flushed) {
  require(flushed <= wal_end_, "confirmed {}, the WAL ends at {}", flushed, wal_end_);
  if (flushed <= confirmed_) return;
  confirmed_ = flushed;
  chance_.note("master: slot confirmed up to {}", confirmed_);
}

void PlayedMaster::crash() {
  confirmed_ = saved_;
  ++life_;
  chance_.note("master: crash, the slot is back at {}", confirmed_);
}

SlotReading::SlotReading(const PlayedMaster& master, MasterLsn start)
    : master_(master),
      life_(master.life()),
      transaction_(master.transactions_before(std::max(start, master.confirmed()))),
      position_(std::max(start, master.confirmed())) {}

bool SlotReading::read(ReadChanges& into, Chance& chance) {
  if (transaction_ == master_.history().size()) return false;
  const auto& transaction = master_.history()[transaction_];
  if (streamed_rows_.contains(transaction.xid)) {
    read_rest(into, transaction, chance);
  } else {
    read_plain(into.builder, transaction);
  }
  return true;
}

bool SlotReading::read_whole(wal::BatchBuilder& builder) {
  if (transaction_ == master_.history().size()) return false;
  read_plain(builder, master_.history()[transaction_]);
  return true;
}

void SlotReading::read_plain(wal::BatchBuilder& builder, const PlayedTransaction& transaction) {
  if (message_ == 0) {
    append(builder, wal::BeginMessage{transaction.commit_lsn, 1, transaction.xid});
    ++message_;
  } else if (described_[transaction.other] != transaction.columns) {
    append(builder,
           wal::RelationMessage{0, played_relation(transaction.columns, transaction.other)});
    described_[transaction.other] = transaction.columns;
  } else if (message_ <= transaction.rows) {
    const auto values = row_values(transaction, message_);
    append(builder, row_message(values, transaction.other));
    ++message_;
  } else {
    append(builder, wal::CommitMessage{transaction.commit_lsn, transaction.end_lsn, 1});
    finish_transaction(transaction);
  }
}

void SlotReading::finish_transaction(const PlayedTransaction& transaction) {
  position_ = transaction.end_lsn;
  message_ = 0;
  ++transaction_;
}

// What was described in the transaction holds for those after it.
void SlotReading::read_rest(ReadChanges& into, const PlayedTransaction& transaction,
                            Chance& chance) {
  if (!into.builder.empty()) into.due.push_back(into.builder.take());
  const auto rest = transaction.rows - streamed_rows_[transaction.xid];
  if (rest != 0) read_rows(into, transaction, rest, chance);
  auto commit =
      into.streamed.commit({transaction.xid, transaction.commit_lsn, transaction.end_lsn, 1});
  require(commit.has_value(), "what was streamed is forgotten");
  into.due.push_back(std::move(*commit));
  streamed_rows_.erase(transaction.xid);
  described_[transaction.other] = transaction.columns;
  finish_transaction(transaction);
}

void SlotReading::read_block(ReadChanges& into, Chance& chance) {
  if (message_ != 0) return;
  if (!into.builder.empty()) into.due.push_back(into.builder.take());
  if (chance.one_in(4)) return read_doomed(into, chance);
  for (auto at = transaction_; at < master_.history().size(); ++at) {
    const auto& transaction = master_.history()[at];
    if (transaction.rows < kStreamedRowsMin || !chance.one_in(2)) continue;
    const auto left = transaction.rows - streamed_rows_[transaction.xid];
    return read_rows(into, transaction,
                     std::min(left, static_cast<std::uint32_t>(chance.between(1, 8))), chance);
  }
}

void SlotReading::read_rows(ReadChanges& into, const PlayedTransaction& transaction,
                            std::uint32_t rows, Chance& chance) {
  auto& done = streamed_rows_[transaction.xid];
  auto& streamed = into.streamed;
  streamed.start({transaction.xid, done == 0});
  if (done == 0)
    append(streamed, wal::RelationMessage{transaction.xid,
                                          played_relation(transaction.columns, transaction.other)});
  const bool rolls_back = chance.one_in(3);
  if (rolls_back) {
    const auto noise = row_values(transaction, kNoise + done);
    append(streamed, row_message(noise, transaction.other, transaction.xid + kNoise));
  }
  for (; rows > 0; --rows) {
    const auto values = row_values(transaction, ++done);
    append(streamed, row_message(values, transaction.other, transaction.xid));
  }
  into.due.push_back(streamed.take());
  streamed.stop();
  if (rolls_back) (void)streamed.abort({transaction.xid, transaction.xid + kNoise, {}, 0});
}

// The master tells of its end, unless that one crashes.
void SlotReading::read_doomed(ReadChanges& into, Chance& chance) {
  PlayedTransaction transaction;
  transaction.xid = kNoise * 2 + ++doomed_;
  transaction.other = chance.one_in(2);
  into.streamed.start({transaction.xid, true});
  append(into.streamed,
         wal::RelationMessage{transaction.xid, played_relation(1, transaction.other)});
  const auto values = row_values(transaction, 1);
  append(into.streamed, row_message(values, transaction.other, transaction.xid));
  into.due.push_back(into.streamed.take());
  into.streamed.stop();
  if (chance.one_in(3)) return;
  auto aborted = into.streamed.abort({transaction.xid, transaction.xid, {}, 0});
  require(aborted.has_value(), "what was streamed is forgotten");
  into.due.push_back(std::move(*aborted));
}

void SlotReading::read_idle_position(wal::BatchBuilder& builder, Chance& chance) {
  if (message_ != 0) return;
  const bool at_head = transaction_ == master_.history().size();
  const MasterLsn until = at_head ? master_.wal_end() : master_.history()[transaction_].commit_lsn;
  if (until < position_) return;
  position_ = {chance.one_in(2) ? until.value : chance.between(position_.value, until.value)};
  builder.append_idle_position(position_);
}

}  // namespace bitacora::simulator
