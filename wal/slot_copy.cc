#include "wal/slot_copy.h"

#include <poll.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/fault_point.h"
#include "wal/wal_end.h"

namespace bitacora::wal {
namespace {

constexpr std::string_view kReading = "cannot read the backlog of the slot";
// Of COPY BINARY: a signature, flags, and the length of an extension that is empty so far. Source:
// https://www.postgresql.org/docs/current/sql-copy.html
constexpr std::size_t kSignatureBytes = 11;

Error unreadable() {
  return {ErrorCode::kMaster,
          "the master's COPY of the backlog is not what COPY BINARY looks like"};
}

}  // namespace

SlotCopy::SlotCopy(MasterConnection connection, std::string slot)
    : connection_(std::move(connection)),
      publication_(connection_.get()),
      slot_(std::move(slot)),
      copy_(fmt::format("bitacora_catch_up_{}", PQbackendPID(connection_.get()))) {}

Result<SlotCopy> SlotCopy::make(MasterConnection connection, const std::string& slot) {
  SlotCopy copy(std::move(connection), slot);
  PGconn* pq = copy.connection_.get();
  RETURN_IF_ERROR(
      query(pq,
            fmt::format("SELECT pg_catalog.pg_copy_logical_replication_slot({}, {}, true)",
                        quoted_literal(pq, slot), quoted_literal(pq, copy.copy_)),
            fmt::format("cannot make a temporary copy of slot {}", slot)));
  return copy;
}

Result<CopyPosition> SlotCopy::position() {
  ASSIGN_OR_RETURN(
      const auto row,
      query(connection_.get(),
            fmt::format("SELECT confirmed_flush_lsn, restart_lsn, {},"
                        " (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint"
                        " FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
                        kWalEnd, quoted_literal(connection_.get(), copy_)),
            kReading));
  CopyPosition position;
  if (PQntuples(row.get()) != 1) return Error{ErrorCode::kMaster, "the copy of the slot is gone"};
  const auto lsn = [&](int column) {
    return MasterLsn{parse_lsn(PQgetvalue(row.get(), 0, column)).value_or(0)};
  };
  position.read = lsn(0);
  position.restart = lsn(1);
  position.wal_end = lsn(2);
  const std::string_view clock = PQgetvalue(row.get(), 0, 3);
  std::from_chars(clock.data(), clock.data() + clock.size(), position.master_clock_usec);
  return position;
}

Result<void> SlotCopy::advance(const std::string& slot, MasterLsn lsn) {
  RETURN_IF_ERROR(query(connection_.get(),
                        fmt::format("SELECT pg_catalog.pg_replication_slot_advance({}, '{}')",
                                    quoted_literal(connection_.get(), slot), to_string(lsn)),
                        fmt::format("cannot advance slot {}", slot)));
  return {};
}

Result<void> SlotCopy::skip_to(MasterLsn lsn) { return advance(copy_, lsn); }

Result<void> SlotCopy::confirm_slot(MasterLsn lsn) {
  fault_point("slot.before_advance");
  RETURN_IF_ERROR(advance(slot_, lsn));
  fault_point("slot.after_advance");
  return {};
}

Result<void> SlotCopy::begin_range(MasterLsn upto, const PluginOptions& options) {
  CHECK(!in_range());
  PGconn* pq = connection_.get();
  std::string arguments;
  for (const auto& [name, value] : options)
    arguments += fmt::format(", {}, {}", quoted_literal(pq, name), quoted_literal(pq, value));
  const auto command = fmt::format(
      "COPY (SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes({}, '{}', NULL{}))"
      " TO STDOUT (FORMAT binary)",
      quoted_literal(pq, copy_), to_string(upto), arguments);
  if (PQsendQuery(pq, command.c_str()) != 1) return master_error(pq, kReading);
  stage_ = Stage::kDecoding;
  return {};
}

// The server answers with CopyOut when it has decoded all of the range.
Result<bool> SlotCopy::decoded() {
  PGconn* pq = connection_.get();
  if (PQconsumeInput(pq) == 0) return master_error(pq, kReading);
  if (PQisBusy(pq) == 1) return false;
  const MasterResult result(PQgetResult(pq));
  RETURN_IF_ERROR(publication_.check());
  if (PQresultStatus(result.get()) != PGRES_COPY_OUT)
    return master_error(pq, kReading, result.get());
  stage_ = Stage::kHeader;
  return true;
}

Result<std::optional<std::string_view>> SlotCopy::receive() {
  if (stage_ == Stage::kDecoding) {
    ASSIGN_OR_RETURN(const bool begun, decoded());
    if (!begun) return std::optional<std::string_view>{};
  }
  PGconn* pq = connection_.get();
  bool consumed = false;
  while (in_range()) {
    char* raw = nullptr;
    const int length = PQgetCopyData(pq, &raw, 1);
    buffer_.reset(raw);
    if (length < 0) {
      RETURN_IF_ERROR(finish_range());
    } else if (length == 0) {
      if (std::exchange(consumed, true)) break;
      if (PQconsumeInput(pq) == 0) return master_error(pq, kReading);
    } else {
      ASSIGN_OR_RETURN(const auto message, take_row({raw, static_cast<std::size_t>(length)}));
      if (message) return message;
    }
  }
  return std::optional<std::string_view>{};
}

// One row of one column, or the end marker. The signature comes with the first.
Result<std::optional<std::string_view>> SlotCopy::take_row(std::string_view bytes) {
  if (stage_ == Stage::kHeader) {
    ByteReader header(bytes.substr(std::min(kSignatureBytes, bytes.size())));
    header.integer<std::uint32_t>();
    const auto extension = header.integer<std::uint32_t>();
    if (!header.ok() || extension > header.rest().size()) return unreadable();
    bytes = header.rest().substr(extension);
    stage_ = Stage::kRows;
  }
  ByteReader reader(bytes);
  const auto columns = reader.integer<std::int16_t>();
  if (reader.ok() && columns == -1) return std::optional<std::string_view>{};
  const auto length = reader.integer<std::int32_t>();
  if (!reader.ok() || columns != 1 || length < 0 ||
      reader.rest().size() != static_cast<std::size_t>(length))
    return unreadable();
  return std::optional(reader.rest());
}

Result<void> SlotCopy::finish_range() {
  PGconn* pq = connection_.get();
  Result<void> outcome;
  while (const MasterResult result{PQgetResult(pq)}) {
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK && outcome.ok())
      outcome = master_error(pq, kReading, result.get());
  }
  stage_ = Stage::kBetween;
  return outcome;
}

void SlotCopy::wait(std::chrono::milliseconds timeout) {
  pollfd descriptor{PQsocket(connection_.get()), POLLIN, 0};
  ::poll(&descriptor, 1, static_cast<int>(timeout.count()));
}

void SlotCopy::abandon() { cancel_query(connection_.get()); }

}  // namespace bitacora::wal
