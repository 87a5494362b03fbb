#include "wal/replication_connection.h"

#include <poll.h>

#include <array>
#include <charconv>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/fault_point.h"
#include "base/sqlstate.h"

namespace bitacora::wal {
namespace {

// Microseconds between 1970-01-01 and PostgreSQL's epoch, 2000-01-01.
constexpr std::int64_t kPostgresEpochUsec = 946'684'800'000'000;

struct Clear {
  void operator()(PGresult* result) const noexcept { PQclear(result); }
};
using ResultHandle = std::unique_ptr<PGresult, Clear>;

std::string quoted_literal(PGconn* connection, const std::string& text) {
  std::unique_ptr<char, void (*)(void*)> quoted(
      PQescapeLiteral(connection, text.data(), text.size()), PQfreemem);
  return quoted ? quoted.get() : "''";
}

std::int64_t now_usec() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

Error unknown_message() {
  return Error{ErrorCode::kMaster,
               "the walsender sent a message of an unknown kind or a truncated one",
               "check that the master is PostgreSQL 14 or newer"};
}

// "skipped loading publication": the only warning of its SQLSTATE in a walsender.
void note_skipped_publication(void* warning, const PGresult* notice) {
  const char* state = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
  const char* text = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
  if (state != nullptr && std::string_view(state) == "55000" && text != nullptr) {
    *static_cast<std::string*>(warning) = text;
  }
}

}  // namespace

ReplicationConnection::ReplicationConnection(Handle connection)
    : skipped_publication_(std::make_unique<std::string>()), connection_(std::move(connection)) {
  PQsetNoticeReceiver(connection_.get(), note_skipped_publication, skipped_publication_.get());
}

Result<ReplicationConnection> ReplicationConnection::connect(const std::string& conninfo,
                                                             const std::string& application_name) {
  // Before dbname: defaults that the conninfo may overrule. After it: what must hold. The settings
  // are those PostgreSQL's own subscription uses, so that text output can be read back anywhere.
  const std::array<std::pair<const char*, const char*>, 7> parameters = {{
      {"tcp_user_timeout", "10000"},
      {"connect_timeout", "4"},
      {"dbname", conninfo.c_str()},
      {"replication", "database"},
      {"application_name", application_name.c_str()},
      {"client_encoding", "UTF8"},
      {"options",
       "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c "
       "client_min_messages=warning"},
  }};
  std::array<const char*, 8> keywords{};
  std::array<const char*, 8> values{};
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    keywords[i] = parameters[i].first;
    values[i] = parameters[i].second;
  }
  ReplicationConnection made(Handle(PQconnectdbParams(keywords.data(), values.data(), 1)));
  if (PQstatus(made.connection_.get()) != CONNECTION_OK) {
    return made.failure("cannot open a replication connection to the master");
  }
  return made;
}

Error ReplicationConnection::failure(std::string_view doing, const PGresult* result) const {
  const char* state = result != nullptr ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : nullptr;
  const char* text = result != nullptr ? PQresultErrorMessage(result) : nullptr;
  if (text == nullptr || *text == '\0') text = PQerrorMessage(connection_.get());
  const std::string_view sqlstate = state != nullptr ? state : "";
  Error error{
      ErrorCode::kMaster, fmt::format("{}: {}", doing, text), {}, recovery_for_sqlstate(sqlstate)};
  if (std::string_view(text).find("max_wal_senders") != std::string_view::npos) {
    error.hint =
        "raise max_wal_senders on the master and restart it, or end an unused replication "
        "connection";
  } else if (std::string_view(text).find("pg_hba.conf") != std::string_view::npos) {
    error.hint =
        "add a line for this host, database and role to the master's pg_hba.conf and reload it";
  } else if (sqlstate == "55006") {
    error.hint = "another process reads this slot: stop it, or use another --stream";
  }
  return error;
}

Result<SystemIdentity> ReplicationConnection::identify_system() {
  const ResultHandle result(PQexec(connection_.get(), "IDENTIFY_SYSTEM"));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK)
    return failure("IDENTIFY_SYSTEM", result.get());
  SystemIdentity identity;
  const auto field = [&](int column) {
    return std::string_view(PQgetvalue(result.get(), 0, column));
  };
  const auto number = [](std::string_view text, auto& value) {
    return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{};
  };
  const auto lsn = parse_lsn(field(2));
  std::uint32_t timeline = 0;
  if (!number(field(0), identity.system_identifier) || !number(field(1), timeline) || !lsn) {
    return Error{ErrorCode::kMaster, "IDENTIFY_SYSTEM answered something unreadable"};
  }
  identity.wal_lsn = MasterLsn{*lsn};
  identity.database = field(3);
  std::string history;
  if (timeline > 1) {
    ASSIGN_OR_RETURN(history, timeline_history(timeline));
  }
  ASSIGN_OR_RETURN(identity.history, parse_timeline_history(timeline, history));
  return identity;
}

Result<std::string> ReplicationConnection::timeline_history(std::uint32_t timeline) {
  const auto command = fmt::format("TIMELINE_HISTORY {}", timeline);
  const ResultHandle result(PQexec(connection_.get(), command.c_str()));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) return failure(command, result.get());
  return std::string(PQgetvalue(result.get(), 0, 1),
                     static_cast<std::size_t>(PQgetlength(result.get(), 0, 1)));
}

Result<void> ReplicationConnection::start_replication(const std::string& slot, MasterLsn start_lsn,
                                                      const std::vector<Option>& plugin_options) {
  std::string options;
  for (const auto& [name, value] : plugin_options) {
    if (!options.empty()) options += ", ";
    options += fmt::format("{} {}", name, quoted_literal(connection_.get(), value));
  }
  const std::string command = fmt::format("START_REPLICATION SLOT \"{}\" LOGICAL {} ({})", slot,
                                          to_string(start_lsn), options);
  const ResultHandle result(PQexec(connection_.get(), command.c_str()));
  if (PQresultStatus(result.get()) != PGRES_COPY_BOTH) {
    return failure(fmt::format("cannot stream from slot {}", slot), result.get());
  }
  return {};
}

Result<std::optional<StreamMessage>> ReplicationConnection::receive() {
  char* raw = nullptr;
  int length = PQgetCopyData(connection_.get(), &raw, 1);
  if (length == 0) {
    if (PQconsumeInput(connection_.get()) == 0) return failure("lost the replication connection");
    length = PQgetCopyData(connection_.get(), &raw, 1);
  }
  buffer_.reset(raw);
  if (!skipped_publication_->empty()) {
    return Error{ErrorCode::kMaster, "the master " + *skipped_publication_,
                 "create it again and copy the tables anew: the slot does not bring what was "
                 "written without it"};
  }
  if (length == 0) return std::optional<StreamMessage>{};
  if (length < 0) {  // -1: the server ended the stream, -2: an error
    const ResultHandle result(PQgetResult(connection_.get()));
    Error error = failure("the master ended the replication stream", result.get());
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
    return failure("cannot send the standby status");
  }
  fault_point("feedback.after_send");
  return {};
}

}  // namespace bitacora::wal
