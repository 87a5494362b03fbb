#include "wal/replication_connection.h"

#include <poll.h>

#include <array>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/fault_point.h"

namespace bitacora::wal {
namespace {

// Microseconds between 1970-01-01 and PostgreSQL's epoch, 2000-01-01.
constexpr std::int64_t kPostgresEpochUsec = 946'684'800'000'000;

std::int64_t now_usec() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

Error unknown_message() {
  return Error{ErrorCode::kMaster,
               "the walsender sent a message of an unknown kind or a truncated one",
               "check that the master is PostgreSQL 14 or newer"};
}

}  // namespace

Result<void> ReplicationConnection::start_replication(const std::string& slot, MasterLsn start_lsn,
                                                      const PluginOptions& plugin_options) {
  std::string options;
  for (const auto& [name, value] : plugin_options) {
    if (!options.empty()) options += ", ";
    options += fmt::format("{} {}", name, quoted_literal(connection_.get(), value));
  }
  const std::string command = fmt::format("START_REPLICATION SLOT \"{}\" LOGICAL {} ({})", slot,
                                          to_string(start_lsn), options);
  const MasterResult result(PQexec(connection_.get(), command.c_str()));
  if (PQresultStatus(result.get()) != PGRES_COPY_BOTH) {
    return master_error(connection_.get(), fmt::format("cannot stream from slot {}", slot),
                        result.get());
  }
  return {};
}

Result<std::optional<StreamMessage>> ReplicationConnection::receive() {
  char* raw = nullptr;
  int length = PQgetCopyData(connection_.get(), &raw, 1);
  if (length == 0) {
    if (PQconsumeInput(connection_.get()) == 0)
      return master_error(connection_.get(), "lost the replication connection");
    length = PQgetCopyData(connection_.get(), &raw, 1);
  }
  buffer_.reset(raw);
  RETURN_IF_ERROR(publication_.check());
  if (length == 0) return std::optional<StreamMessage>{};
  if (length < 0) {  // -1: the server ended the stream, -2: an error
    const MasterResult result(PQgetResult(connection_.get()));
    Error error =
        master_error(connection_.get(), "the master ended the replication stream", result.get());
    if (length == -1 && PQresultStatus(result.get()) != PGRES_FATAL_ERROR)
      error.recovery = Recovery::kRetry;
    return error;
  }
  ASSIGN_OR_RETURN(auto message, parse({raw, static_cast<std::size_t>(length)}));
  return std::optional(message);
}

Result<StreamMessage> ReplicationConnection::parse(std::string_view bytes) const {
  ByteReader reader(bytes);
  StreamMessage message;
  const char kind = reader.integer<char>();
  if (kind == 'w') {
    reader.integer<std::uint64_t>();  // where this message's WAL starts: not needed, Commit names
                                      // its end
    message.wal_end.value = reader.integer<std::uint64_t>();
    message.send_time_usec = reader.integer<std::int64_t>() + kPostgresEpochUsec;
    message.payload = reader.rest();
  } else if (kind == 'k') {
    message.keepalive = true;
    message.wal_end.value = reader.integer<std::uint64_t>();
    message.send_time_usec = reader.integer<std::int64_t>() + kPostgresEpochUsec;
    message.reply_requested = reader.integer<char>() != 0;
  } else {
    return unknown_message();
  }
  if (!reader.ok()) return unknown_message();
  return message;
}

void ReplicationConnection::wait(int wake_descriptor, std::chrono::milliseconds timeout) {
  std::array<pollfd, 2> descriptors = {
      {{PQsocket(connection_.get()), POLLIN, 0}, {wake_descriptor, POLLIN, 0}}};
  ::poll(descriptors.data(), descriptors.size(), static_cast<int>(timeout.count()));
}

Result<void> ReplicationConnection::send_status(const StandbyStatus& status, bool request_reply) {
  std::string message = "r";
  append_big_endian(message, status.written.value);
  append_big_endian(message, status.flushed.value);
  append_big_endian(message, status.applied.value);
  append_big_endian(message, now_usec() - kPostgresEpochUsec);
  message += static_cast<char>(request_reply ? 1 : 0);
  fault_point("feedback.before_send");
  if (PQputCopyData(connection_.get(), message.data(), static_cast<int>(message.size())) != 1 ||
      PQflush(connection_.get()) != 0) {
    return master_error(connection_.get(), "cannot send the standby status");
  }
  fault_point("feedback.after_send");
  return {};
}

}  // namespace bitacora::wal
