#include "apply/part_writer.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apply/standby_command.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kChunkBytesMax = 1u << 30;  // libpq's lengths are of type int
// COPY BINARY's header and trailer; between them a row without columns is its count of them.
constexpr std::uint64_t kBinaryFrameBytes = 11 + 4 + 4 + 2;
constexpr std::uint64_t kBareBinaryRowBytes = 2;
constexpr std::uint64_t kBareTextRowBytes = 1;

std::string copy_sql(const CopyTarget& target, bool freeze) {
  return fmt::format("COPY {} ({}) FROM STDIN WITH (FORMAT {}{})", target.rows.table,
                     fmt::join(target.columns, ", "), target.binary ? "binary" : "text",
                     freeze ? ", FREEZE" : "");
}

std::uint64_t bare_rows_of(std::uint64_t bytes, bool binary) {
  if (!binary) return bytes / kBareTextRowBytes;
  return bytes < kBinaryFrameBytes ? 0 : (bytes - kBinaryFrameBytes) / kBareBinaryRowBytes;
}

}  // namespace

PartWriter::PartWriter(StandbySession& session, std::string subscription)
    : session_(session), subscription_(std::move(subscription)) {}

Result<void> PartWriter::begin(const CopyTarget& target, const CopiedPart& part) {
  target_ = target;
  constants_ = {target.constants, target.columns.size() > target.constants.size()};
  part_ = part;
  bytes_ = 0;
  const auto begun = execute(session_, "cannot begin a part", "BEGIN");
  if (!begun.ok()) return failed(*begun.error);
  const auto opened = open();
  return opened.ok() ? opened : failed(opened.error());
}

Result<void> PartWriter::open() {
  auto emptied = Emptied::kDone;
  if (target_.whole && !target_.mingled) {
    ASSIGN_OR_RETURN(emptied, empty_for_copy(session_, target_.rows, target_.small));
  }
  if (bare_rows()) return {};
  return execute(session_, fmt::format("cannot copy into {}", target_.rows.table),
                 copy_sql(target_, emptied == Emptied::kForFreeze))
      .result();
}

Result<void> PartWriter::write(std::string_view piece) {
  bytes_ += piece.size();
  if (bare_rows()) return {};
  if (!constants_.empty()) piece = constants_.added_to(piece);
  while (!piece.empty()) {
    const auto chunk = piece.substr(0, std::min(piece.size(), kChunkBytesMax));
    if (PQputCopyData(session_.connection(), chunk.data(), static_cast<int>(chunk.size())) != 1)
      return failed(cannot_copy(nullptr));
    piece.remove_prefix(chunk.size());
  }
  return {};
}

Result<void> PartWriter::finish(std::uint64_t rows, std::uint64_t bytes) {
  const auto taken = bare_rows() ? insert_bare_rows(rows) : copied_rows();
  if (!taken.ok()) return failed(taken.error());
  if (*taken != rows) {
    return failed({ErrorCode::kStandby, fmt::format("{} took {} rows of a part that has {}",
                                                    target_.rows.table, *taken, rows)});
  }
  if (const auto noted = note_part(rows, bytes); !noted.ok()) return failed(noted.error());
  return commit(session_, fmt::format("cannot commit a part of {}", target_.rows.table));
}

Result<std::uint64_t> PartWriter::copied_rows() {
  PGconn* connection = session_.connection();
  if (PQputCopyEnd(connection, nullptr) != 1) return cannot_copy(nullptr);
  std::uint64_t rows = 0;
  std::optional<Error> refused;
  while (ResultHandle result{PQgetResult(connection)}) {
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK && !refused)
      refused = cannot_copy(result.get());
    rows = std::strtoull(PQcmdTuples(result.get()), nullptr, 10);
  }
  if (refused) return *refused;
  return rows;
}

// COPY's list of columns cannot be empty, and without one it is all of the standby's, which may
// have columns of its own. Answers how many rows the bytes are.
Result<std::uint64_t> PartWriter::insert_bare_rows(std::uint64_t rows) {
  const auto came = bare_rows_of(bytes_, target_.binary);
  if (came != rows) return came;
  const auto inserted = session_.query(
      fmt::format("cannot copy into {}", target_.rows.table),
      fmt::format("INSERT INTO {} SELECT FROM pg_catalog.generate_series(1, $1::bigint)",
                  target_.rows.table),
      {std::to_string(rows)});
  if (!inserted.ok()) return inserted.error();
  return came;
}

Result<void> PartWriter::note_part(std::uint64_t rows, std::uint64_t bytes) {
  const auto noted = session_.query(
      fmt::format("cannot note a part of {}", target_.rows.table),
      "INSERT INTO bitacora.copied_parts (subscription, schema_name, table_name, piece, begin_page,"
      " end_page, rows, bytes) VALUES ($1, $2, $3, $4::oid, $5::bigint, $6::bigint, $7::bigint,"
      " $8::bigint)",
      {subscription_, target_.schema, target_.name, std::to_string(part_.piece),
       std::to_string(part_.begin_page), std::to_string(part_.end_page), std::to_string(rows),
       std::to_string(bytes)});
  return noted.ok() ? Result<void>{} : noted.error();
}

Result<void> PartWriter::failed(Error error) {
  abandon();
  return error;
}

Error PartWriter::cannot_copy(const PGresult* result) const {
  Error error =
      standby_error(session_.connection(), result,
                    "cannot copy into " + proto::qualified_name(target_.schema, target_.name));
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  // A binary value that is too short for its type is a protocol violation in the server's words.
  const bool bad_value = state != nullptr && std::string_view(state) == "08P01" &&
                         PQstatus(session_.connection()) == CONNECTION_OK;
  if (bad_value) error.recovery = Recovery::kStop;
  // The row stays as it was in the master's snapshot.
  if (!error.heals()) {
    error.hint =
        "mend it on the standby, so that it takes the row, and start the receiver again if it has "
        "stopped: the copy goes on with this part";
  }
  return error;
}

void PartWriter::abandon() { roll_back(session_); }

}  // namespace bitacora::apply
