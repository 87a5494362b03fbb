#include "tests/transport/played_stream.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"
#include "proto/batch.h"

namespace bitacora::transport {
namespace {

constexpr std::uint64_t kXidMixed = 0x9E3779B97F4A7C15;

// Rows parts of a transaction; each is a part of its own.
std::uint64_t rows_of(std::uint64_t transaction) { return 1 + (transaction * kXidMixed >> 33) % 6; }

std::string tuples_of(std::uint64_t transaction, std::uint64_t part) {
  std::mt19937_64 random(transaction * 1000 + part);
  std::string bytes(random() % (transaction % 7 == 0 ? 1500 : 150), '\0');
  for (char& c : bytes) c = static_cast<char>('a' + random() % 8);
  return fmt::format("{}/{} {}", transaction, part, bytes);
}

// The parts of a transaction: Begin, rows, Commit.
pb::Part part_of(std::uint64_t transaction, std::uint64_t number) {
  pb::Part part;
  const auto commit_lsn = end_of_transaction(transaction).value - 10;
  if (number == 0) {
    part.mutable_begin()->set_xid(static_cast<std::int32_t>(transaction));
    part.mutable_begin()->set_commit_lsn(commit_lsn);
  } else if (number <= rows_of(transaction)) {
    part.mutable_rows()->set_relation_oid(played_relation().oid());
    part.mutable_rows()->set_count(1);
    part.mutable_rows()->set_tuples(tuples_of(transaction, number));
  } else {
    part.mutable_commit()->set_commit_lsn(commit_lsn);
    part.mutable_commit()->set_end_lsn(end_of_transaction(transaction).value);
  }
  return part;
}

std::optional<std::string> wrong_content(const pb::ChangeBatch& parts, std::uint64_t transaction) {
  pb::ChangeBatch expected;
  for (std::uint64_t i = 0; i <= rows_of(transaction) + 1; ++i) {
    *expected.add_parts() = part_of(transaction, i);
  }
  if (parts.SerializeAsString() == expected.SerializeAsString()) return std::nullopt;
  return fmt::format("transaction {} has another content", transaction);
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

pb::Relation played_relation() {
  pb::Relation relation;
  relation.set_oid(16385);
  relation.set_schema("public");
  relation.set_name("datos");
  return relation;
}

const PlayedFrame& PlayedStream::front() {
  while (frames_.empty()) make_batch();
  return frames_.front();
}

void PlayedStream::make_batch() {
  pb::ChangeBatch batch;
  const bool was_in_transaction = part_ != 0;
  end_lsn_ = {};
  if (part_ == 0 && random_() % 10 == 0) {
    end_lsn_ = MasterLsn{end_of_transaction(transaction_ - 1).value + random_() % 50};
    batch.add_parts()->mutable_idle_position()->set_lsn(end_lsn_.value);
  } else {
    for (auto parts = 1 + random_() % 9; parts > 0; --parts) add_part(batch);
    const bool whole = random_() % 2 == 0;
    while (whole && part_ != 0) add_part(batch);
  }
  const bool in_transaction = part_ != 0;
  const auto end_lsn = in_transaction ? MasterLsn{} : end_lsn_;
  const auto encoded = encoder_.encode(
      proto::serialize_batch(batch), end_lsn, [&](pb::Frame& frame) -> Result<void> {
        frames_.push_back({frame, frame.more() ? was_in_transaction : in_transaction});
        return {};
      });
  CHECK(encoded.ok());
}

void PlayedStream::add_part(pb::ChangeBatch& batch) {
  const auto& part = *batch.add_parts() = part_of(transaction_, part_);
  ++part_;
  if (!part.has_commit()) return;
  end_lsn_ = end_of_transaction(transaction_);
  ++transaction_;
  part_ = 0;
}

Result<int> append_frames(Spool& spool, PlayedStream& stream, int frames) {
  static std::int64_t clock_usec = 1'700'000'000'000'000;
  for (int done = 0; done < frames; ++done) {
    const auto& [frame, in_transaction_after] = stream.front();
    ASSIGN_OR_RETURN(const auto appended, spool.append(frame, in_transaction_after, ++clock_usec));
    if (appended.outcome == Appended::kFull) return done;
    stream.pop();
  }
  return frames;
}

Result<void> append_until(Spool& spool, PlayedStream& stream, std::uint64_t number) {
  while (spool.end_lsn() < end_of_transaction(number)) {
    ASSIGN_OR_RETURN(const int done, append_frames(spool, stream, 1));
    if (done == 0) return Error{ErrorCode::kInternal, "the spool is full"};
  }
  return {};
}

std::optional<std::string> TransactionCollector::take(const pb::ChangeBatch& batch) {
  for (const auto& part : batch.parts()) {
    if (auto wrong = take(part)) return wrong;
  }
  return std::nullopt;
}

std::optional<std::string> TransactionCollector::take(const pb::Part& part) {
  if (part.has_relation() || part.has_type()) return std::nullopt;
  if (part.has_begin() || part.has_idle_position()) {
    if (open_) return "a transaction did not end";
    if (part.has_begin()) open_.emplace();
  } else if (!open_) {
    return "a part outside a transaction";
  }
  if (open_) *open_->add_parts() = part;
  if (!part.has_commit()) return std::nullopt;
  const auto parts = *std::exchange(open_, std::nullopt);
  const auto number = static_cast<std::uint64_t>(parts.parts(0).begin().xid());
  if (auto wrong = wrong_content(parts, number)) return wrong;
  const auto end_lsn = end_of_transaction(number);
  if (end_lsn <= applied_) return std::nullopt;
  if (number != last_transaction(applied_) + 1) {
    return fmt::format("transaction {} follows {}", number, to_string(applied_));
  }
  applied_ = end_lsn;
  return std::nullopt;
}

std::optional<std::string> read_to_tail(SpoolReader& reader, TransactionCollector& collector) {
  while (true) {
    auto event = reader.next();
    if (!event.ok()) return one_line(event.error());
    if (std::holds_alternative<SpoolTail>(*event)) return std::nullopt;
    if (std::holds_alternative<SpoolAbandoned>(*event)) {
      collector.abandon();
    } else if (auto wrong = collector.take(*std::get<SpoolBatch>(*event).changes)) {
      return wrong;
    }
  }
}

std::optional<std::string> check_content(Spool& spool, MasterLsn position) {
  auto reader = spool.read_from(position);
  if (!reader.ok()) return one_line(reader.error());
  TransactionCollector collector(position);
  if (auto wrong = read_to_tail(**reader, collector)) return wrong;
  // A batch that ends inside a transaction may complete others before: those are no cut point yet.
  if (last_transaction(collector.applied()) >= last_transaction(spool.end_lsn())) {
    return std::nullopt;
  }
  return fmt::format("read from {} up to {}, the spool ends at {}", to_string(position),
                     to_string(collector.applied()), to_string(spool.end_lsn()));
}

}  // namespace bitacora::transport
